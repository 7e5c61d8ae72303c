# Two 82599s on one wire that are not tolerant, and that no driver of Linux has touched: ours on both.
set -- $cards
for card in "$@"; do
    hand_over $card
    equal "driver of $card" "$(driver $card)" vfio-pci
done
dd if=/dev/urandom of=/run/www/part bs=1M count=64 2> /dev/null
expected=$(sha256sum < /run/www/part)
client() { # program, on the other card
    $run --device "$other" --address 10.0.0.1/24 $options "$@"
}
ours=$1 other=$2
for options in "--workers 1" "--workers 2"; do
    nginx_on $ours $options
    start=$(seconds)
    fetched=$(client curl -s -m 200 --retry 30 --retry-delay 1 --retry-connrefused http://10.0.0.2/part | sha256sum)
    equal "64 MB between two stacks, $options" "$fetched" "$expected"
    since $start
    client ab -q -n 1000 -c 16 http://10.0.0.2/hello > /tmp/ab
    seen=$(sed -n 's/^Complete requests: *//p; s/^Failed requests: *//p' /tmp/ab | xargs)
    equal "short connections, and how many of them have failed" "$seen" "1000 0"
    stop
done

finish
