"""Fetches URLs and prints the SHA-256 of each body."""
import hashlib
import sys
import urllib.request

for url in sys.argv[1:]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        print(hashlib.sha256(answer.read()).hexdigest())
