"""A page of 20,000 bytes and the length of the request's body, as ASGI and as WSGI."""

PAGE = b"x" * 20000


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    count, more = 0, True
    while more:
        message = await receive()
        count += len(message.get("body", b""))
        more = message.get("more_body", False)
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE + b"\n%d\n" % count})


def wsgi(environment, start_response):
    count = len(environment["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [PAGE, b"\n%d\n" % count]
