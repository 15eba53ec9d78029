#!/bin/sh
# In namespaces of its own, with a network that is nothing but loopback: lets the system's file name the
# name server, and changes what it says about searching. Writes what Pillion knows then.
# Arguments: dnsmasq, pillion, curl, a directory with `pillion.toml`.
set -eu
dnsmasq=$1 pillion=$2 curl=$3
cd "$4"
ip link set lo up
printf 'nameserver 127.0.0.1\nsearch one.test\noptions ndots:5\n' > resolv.conf
mount --bind resolv.conf /etc/resolv.conf
printf '127.0.0.7 app.one.test\n127.0.0.8 app.two.test\n' > hosts

"$dnsmasq" --keep-in-foreground --log-facility=- --pid-file= --conf-file=/dev/null --no-resolv \
    --no-hosts --bind-interfaces --user= --group= --no-poll --local=/test/ --local-ttl=1 \
    --listen-address=127.0.0.1 --addn-hosts="$PWD/hosts" 2> dnsmasq.log &
server=$!
trap 'kill $server' EXIT
"$pillion" run -c pillion.toml 2> pillion.log &
proxy=$!
trap 'kill $proxy $server' EXIT

knows() {
    tries=0
    until "$curl" -s http://127.0.0.1:9901/status | grep -q "\"$1\""; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ]; then
            cat dnsmasq.log pillion.log
            exit 1
        fi
        sleep 0.1
    done
    echo "knows $1"
}

knows 127.0.0.7:9
# In place: the file is what is mounted.
printf 'nameserver 127.0.0.1\nsearch two.test\noptions ndots:5\n' > resolv.conf
knows 127.0.0.8:9
"$curl" -s http://127.0.0.1:9901/metrics | grep pillion_dns_lookups_total
