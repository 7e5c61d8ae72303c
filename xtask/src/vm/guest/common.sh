#!/bin/busybox sh
# How every guest begins. What it finds are lines that begin with "ok" or "FAIL"; the last says whether
# all of it passed.
/bin/busybox mkdir -p /proc /sys /dev /etc /run /tmp
/bin/busybox --install -s /bin
/bin/chmod 755 / # As DPDK demands.
export PATH=/usr/bin:/usr/sbin:/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /run
echo 4 > /proc/sys/kernel/printk
echo 'root:x:0:0::/:/bin/sh' > /etc/passwd
echo 'root:x:0:' > /etc/group
printf 'passwd: files\ngroup: files\nhosts: files\n' > /etc/nsswitch.conf
ip=/usr/bin/ip
failed=0

say() { # description, 0 if it is good, what was seen
    if [ "$2" = 0 ]; then echo "ok   $1: $3"; else echo "FAIL $1: $3"; failed=1; fi
}
equal() { # description, what is, what should be
    [ -n "$2" ] && [ "$2" = "$3" ]
    say "$1" $? "$2 (expected $3)"
}
above() { # description, number, bound
    [ -n "$2" ] && [ "$2" -gt "$3" ]
    say "$1" $? "$2 (above $3)"
}
finish() {
    warned=$(dmesg | grep -c -E 'WARNING|BUG|Tx Unit Hang|NETDEV WATCHDOG')
    equal "warnings of the kernel" "$warned" 0
    [ $failed = 0 ] && echo "vm-test: passed" || { dmesg | tail -30; echo "vm-test: failed"; }
    poweroff -f
}
interface() { # card, namespace, name, address: of Linux's driver, in a namespace of its own
    $ip netns add $2
    $ip link set dev "$(ls /sys/bus/pci/devices/$1/net)" netns $2 name $3
    $ip netns exec $2 sysctl -q -w net.ipv6.conf.all.disable_ipv6=1
    $ip netns exec $2 $ip addr add $4/24 dev $3
    $ip netns exec $2 $ip link set dev $3 up
}
a() { $ip netns exec A "$@"; }
b() { $ip netns exec B "$@"; }
has_link() { "$1" ethtool "$2" | grep -q 'Link detected: yes'; }

for module in $(cat /modules/order); do insmod "/modules/$module" || failed=1; done
cards=$(cd /sys/bus/pci/devices && grep -l 0x10f7 */device | cut -d/ -f1)
equal "cards" "$(echo "$cards" | grep -c .)" 2
