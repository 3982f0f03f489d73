"""The keepalived of each of several gateways, which share a virtual address: pure functions from the stack.

VRRP version 3, with a message every half second: the others take the address 1.5 to 2 seconds after the last
message, and at once when keepalived ends or says that its nginx does not answer. Between the gateways'
own addresses, so that it works without multicast.
"""

import shlex

from infra import names
from infra.gateway.plan import curl_options, public_url
from infra.stack import Stack

_INTERFACE = "@INTERFACE@"
# The first gateway of the list has the highest priority. It counts where two take the address at once.
_HIGHEST_PRIORITY = 200

# The local nginx counts as dead after two checks, a second apart. A gateway that has no nginx never gets the
# address. One that returns does not take the address back: each move breaks the open connections.
# A message from beyond the link cannot have a TTL of 255, so only hosts of the link can take the address.
_CONF = """\
global_defs {{
    router_id {name}
    vrrp_version 3
    enable_script_security
    script_user root
    vrrp_garp_master_refresh 10
}}
vrrp_script nginx {{
    script "{check}"
    interval 1
    timeout 2
    fall 2
    rise 2
    init_fail
}}
vrrp_instance gateway {{
    state BACKUP
    nopreempt
    interface {interface}
    virtual_router_id {router_id}
    priority {priority}
    advert_int 0.5
    unicast_src_ip {own}
    unicast_peer {{
{peers}
    }}
    virtual_ipaddress {{
        {address}
    }}
    track_script {{
        nginx
    }}
    notify {notify}
}}
"""

_STATE = "/run/keepalived.state"
#: keepalived calls it with its state as the third argument.
NOTIFY = f"""\
#!/bin/sh
echo "$3" >{_STATE}
"""
#: Succeeds when this gateway has the address or can take it: its nginx answers by its own address.
HEALTHY = ["grep", "--quiet", "--line-regexp", "-e", "MASTER", "-e", "BACKUP", _STATE]

# keepalived that was killed leaves the address on the interface.
_START = f"""\
set -e
interface=$1
if [ -z "$interface" ]; then
  set -- "$1" "$2" "$3" $(ip -o -4 address show to "$2/32")
  interface=$5
fi
[ -n "$interface" ] || {{ echo "no network interface of this host has the address $2"; sleep 1; exit 1; }}
ip address delete "$3" dev "$interface" 2>/dev/null || :
rm -f {_STATE}
sed "s/{_INTERFACE}/$interface/" {names.KEEPALIVED_CONF} >/run/keepalived.conf
exec keepalived --dont-fork --log-console --no-syslog --vrrp --use-file /run/keepalived.conf
"""


def configuration(stack: Stack) -> str:
    """keepalived's configuration on one gateway, that of `stack`."""
    gateway = stack.gateway
    virtual = gateway.virtual_address
    assert virtual is not None
    own = gateway.own_addresses
    position = own.index(gateway.public_host)
    peers = [address for address in own if address != gateway.public_host]
    return _CONF.format(
        name=names.gateway_number(stack, position),
        check=_check(stack),
        interface=virtual.interface or _INTERFACE,
        router_id=virtual.router_id,
        priority=max(1, _HIGHEST_PRIORITY - position),
        own=gateway.public_host,
        peers="\n".join(f"        {peer} min_ttl 255 max_ttl 255" for peer in peers),
        address=virtual.address,
        notify=names.KEEPALIVED_NOTIFY,
    )


def command(stack: Stack) -> list[str]:
    """The command of keepalived's container on one gateway; it finds an interface that the stack omits."""
    virtual = stack.gateway.virtual_address
    assert virtual is not None
    return ["sh", "-c", _START, "start", virtual.interface or "", stack.gateway.public_host, virtual.address]


def _check(stack: Stack) -> str:
    """The command that asks the gateway on this host by its own address."""
    options = ["--fail", "--silent", "--output", "/dev/null", "--max-time", "1.5", *curl_options(stack)]
    return shlex.join(["/usr/bin/curl", *options, f"{public_url(stack)}/health"])
