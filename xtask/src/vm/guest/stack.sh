# Our stack below nginx, on a card that it drives itself.
run=/opt/mtcp/mtcp-run
seconds() { cut -d' ' -f1 /proc/uptime; }
since() { awk -v from="$1" '{ printf "     in %.1f s\n", $1 - from }' /proc/uptime; }
hand_over() { # card, or back again: what `mtcp-run devices` says to do with it
    $run devices | awk -v card="$1" '/^0/ { here = $1 == card } here && /^    /' > /tmp/commands
    sh /tmp/commands 2> /dev/null
}
driver() { basename "$(readlink "/sys/bus/pci/devices/$1/driver")"; }
nginx_on() { # card, and options
    card=$1
    shift
    $run --device "$card" --address 10.0.0.2/24 "$@" nginx -c /run/nginx.conf 2> /tmp/log &
    stack=$!
}
stop() {
    kill $stack
    wait $stack
    equal "exit status of mtcp-run" $? 0
    equal "errors in its log" "$(grep -c ERROR /tmp/log)" 0
    cat /tmp/log
}

echo 96 > /proc/sys/vm/nr_hugepages
mkdir -p /run/www /run/nginx
echo hello > /run/www/hello
cat > /run/nginx.conf << 'END'
daemon off;
user root root;
pid /run/nginx/pid;
error_log stderr;
worker_processes 1;
events { worker_connections 1024; }
http {
    access_log off;
    sendfile on;
    client_body_temp_path /run/nginx/a; proxy_temp_path /run/nginx/b; fastcgi_temp_path /run/nginx/c;
    uwsgi_temp_path /run/nginx/d; scgi_temp_path /run/nginx/e;
    server { listen 80; root /run/www; }
}
END

