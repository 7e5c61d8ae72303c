# Two 82599s on one wire: ours on the first, below nginx and behind an IOMMU; Linux's ixgbe on the second.
run=/opt/mtcp/mtcp-run
set -- $cards
ours=$1 other=$2
interface $other B p1 10.0.0.1

seconds() { cut -d' ' -f1 /proc/uptime; }
since() { awk -v from="$1" '{ printf "     in %.1f s\n", $1 - from }' /proc/uptime; }
hand_over() { # card, or back again: what `mtcp-run devices` says to do with it
    $run devices | awk -v card="$1" '/^0/ { here = $1 == card } here && /^    /' > /tmp/commands
    sh /tmp/commands 2> /dev/null
}
driver() { basename "$(readlink "/sys/bus/pci/devices/$1/driver")"; }
interrupts() { awk '/vfio-msix/ { for (i = 2; i < 6; i++) sum += $i } END { print sum + 0 }' /proc/interrupts; }
serve() { # starts nginx over our driver
    $run --device "$ours" --address 10.0.0.2/24 nginx -c /run/nginx.conf 2> /tmp/log &
    stack=$!
    left=30
    until [ "$(b curl -s -m 2 http://10.0.0.2/hello)" = hello ]; do
        left=$((left - 1))
        [ $left = 0 ] && break
        sleep 1
    done
    above "$1: nginx answers, with attempts left" $left 0
}
stop() {
    kill $stack
    wait $stack
    equal "exit status of mtcp-run" $? 0
    equal "errors in its log" "$(grep -c ERROR /tmp/log)" 0
    cat /tmp/log
}
connections() { # how many
    start=$(seconds)
    b ab -q -n $1 -c 16 http://10.0.0.2/hello > /tmp/ab
    seen=$(sed -n 's/^Complete requests: *//p; s/^Failed requests: *//p' /tmp/ab | xargs)
    equal "short connections, and how many of them have failed" "$seen" "$1 0"
    since $start
}

echo 96 > /proc/sys/vm/nr_hugepages
hand_over $ours
equal "driver, after the commands that mtcp-run prints" "$(driver $ours)" vfio-pci
$run devices

mkdir -p /run/www /run/nginx
echo hello > /run/www/hello
dd if=/dev/urandom of=/run/www/big bs=1M count=1024 2> /dev/null
expected=$(sha256sum < /run/www/big)
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

serve "vfio-pci"
answered=$(b ping -c 100 -i 0.05 -W 5 10.0.0.2 | sed -n 's/.*transmitted, \([0-9]*\) packets received.*/\1/p')
equal "pings answered" "$answered" 100
start=$(seconds)
equal "1 GB that Linux has fetched" "$(b curl -s http://10.0.0.2/big | sha256sum)" "$expected"
since $start
connections 10000
above "interrupts by MSI-X" "$(interrupts)" 100
stop
serve "vfio-pci again"
kill -9 $stack
wait $stack 2> /dev/null
killall -9 nginx # It still holds the port on the kernel's side.
serve "vfio-pci after kill -9"

# Our stack on both ends.
head -c 67108864 /run/www/big > /run/www/part
expected=$(sha256sum < /run/www/part)
hand_over $other
start=$(seconds)
$run --device "$other" --address 10.0.0.1/24 curl -s -m 200 http://10.0.0.2/part > /tmp/part 2> /tmp/curl
equal "64 MB between two stacks of ours" "$(sha256sum < /tmp/part)" "$expected"
since $start
cat /tmp/curl
stop
hand_over $other
interface $other B p1 10.0.0.1

hand_over $ours
equal "driver, once the card has been given back" "$(driver $ours)" ixgbe
interface "$ours" A p0 10.0.0.2
left=30
until a ping -c 1 -W 1 10.0.0.1 > /dev/null; do
    left=$((left - 1))
    [ $left = 0 ] && break
    sleep 1
done
above "Linux's ixgbe has the link again, with attempts left" $left 0

# Without VFIO, and so without interrupts and without an IOMMU between: by what sysfs shows of the card.
echo "$ours" > "/sys/bus/pci/devices/$ours/driver/unbind"
serve "no driver at all"
connections 1000
stop

finish
