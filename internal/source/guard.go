package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"

	"code.dny.dev/ssrf"
)

// errBlocked is in the chain of every refusal of an address. Its text names
// the address, so it is for the log alone.
var errBlocked = errors.New("address refused")

// guard connects to public addresses only, and to those in the allowed
// networks.
//
// Every port may be connected to: photos are served on many, and a public
// address shows nothing on any of its ports that it does not show to everyone.
type guard struct {
	dialer net.Dialer
	allow  []netip.Prefix // unmapped
	own    func() ([]net.Addr, error)
}

// special refuses what the registries of IANA set aside: for IPv4 the
// special-purpose ranges and multicast; for IPv6 everything outside 2000::/3
// and the special-purpose ranges inside. That includes every range of IPv6 that
// embeds an IPv4 address: mapped, compatible, NAT64, 6to4 and Teredo.
//
// Added is what the registries cannot know: the address at which Azure serves
// secrets to its virtual machines looks public, unlike those of other clouds.
var special = ssrf.New(ssrf.WithDeniedV4Prefixes(netip.MustParsePrefix("168.63.129.16/32")))

// dial connects as net.Dialer does. The check is made on the very address that
// the socket is about to connect to, after any lookup, before any packet.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var permitted atomic.Bool // any of the addresses; IPv4 and IPv6 race each other
	dialer := g.dialer
	dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ip, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %w", errBlocked, err)
		}
		if err := g.check(ip.Addr()); err != nil {
			return err
		}
		permitted.Store(true)
		return nil
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil && permitted.Load() && errors.Is(err, errBlocked) {
		// Only the first error of many comes back. A host of which some address
		// may be connected to is away, not blocked.
		return nil, fmt.Errorf("dial %s: no answer from the public addresses, and the others are refused", network)
	}
	return conn, err
}

// check refuses an address that is neither allowed nor public. An IPv4-mapped
// IPv6 address leads to the IPv4 address, so it is judged as that.
func (g *guard) check(ip netip.Addr) error {
	ip = ip.Unmap()
	for _, prefix := range g.allow {
		if prefix.Contains(ip) {
			return nil
		}
	}
	if err := special.SafeAddr(ip); err != nil {
		return fmt.Errorf("%w: %w", errBlocked, err)
	}

	// A public address of this machine is as good as loopback: behind it are
	// services that a firewall hides from everyone else.
	own, err := g.own()
	if err != nil {
		return fmt.Errorf("cannot tell whether %s is this machine's own: %w", ip, err)
	}
	for _, addr := range own {
		if ipnet, ok := addr.(*net.IPNet); ok {
			if mine, ok := netip.AddrFromSlice(ipnet.IP); ok && mine.Unmap() == ip {
				return fmt.Errorf("%w: %s is this machine's own", errBlocked, ip)
			}
		}
	}
	return nil
}

// checkHost refuses what can be seen of a host without looking it up. It is
// for hosts that a proxy will connect to.
func (g *guard) checkHost(host string) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		return g.check(ip)
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return fmt.Errorf("%w: localhost", errBlocked)
	}
	return nil
}

// unmapPrefix turns ::ffff:10.0.0.0/104 into 10.0.0.0/8.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}
