package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"code.dny.dev/ssrf"
)

// errBlocked is wrapped by every error of an address that may not be connected
// to. The wrapping error's text names the address, so it is for the log alone.
var errBlocked = errors.New("address refused")

// publicDialer connects only to public addresses, to addresses in the allowed
// networks, and to the allowed addresses with their ports, against server-side
// request forgery (SSRF).
//
// Every port of a public address is allowed: photos are served on many, and a
// public address serves the worker nothing that it does not serve to everyone.
type publicDialer struct {
	netDialer  net.Dialer
	allowed    []netip.Prefix // no IPv4-mapped ones: see unmapPrefix
	addresses  []netip.AddrPort
	localAddrs func() ([]net.Addr, error)
}

// publicOnly refuses the addresses that the IANA registries set aside. For IPv4
// these are the special-purpose ranges and multicast; for IPv6, everything
// outside 2000::/3 and the special-purpose ranges inside. That includes every
// IPv6 range that embeds an IPv4 address: mapped, compatible, NAT64, 6to4 and
// Teredo.
//
// 168.63.129.16 is added: Azure's virtual machines read secrets there, and
// unlike the metadata addresses of other clouds it is in a public range.
var publicOnly = ssrf.New(ssrf.WithDeniedV4Prefixes(netip.MustParsePrefix("168.63.129.16/32")))

// dialContext connects like net.Dialer.DialContext. It checks the address that
// the socket is about to connect to, after the DNS lookup and before the first
// packet, so a second lookup cannot replace a checked address.
func (d *publicDialer) dialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var anyPermitted atomic.Bool // atomic, since IPv4 and IPv6 are dialed concurrently
	dialer := d.netDialer
	dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		addrPort, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %w", errBlocked, err)
		}
		if err := d.checkAddrPort(addrPort); err != nil {
			return err
		}
		anyPermitted.Store(true)
		return nil
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil && anyPermitted.Load() && errors.Is(err, errBlocked) {
		// net.Dialer returns only the first address's error. A host with a
		// permitted address is unavailable, not blocked.
		return nil, fmt.Errorf("dial %s: no answer from the public addresses, and the others are refused", network)
	}
	return conn, err
}

func (d *publicDialer) checkAddrPort(a netip.AddrPort) error {
	if slices.Contains(d.addresses, netip.AddrPortFrom(a.Addr().Unmap(), a.Port())) {
		return nil
	}
	return d.checkAddr(a.Addr())
}

// checkAddr returns an error that wraps errBlocked unless the address is
// allowed or public. An IPv4-mapped IPv6 address is checked as the IPv4 address
// that it connects to.
func (d *publicDialer) checkAddr(ip netip.Addr) error {
	ip = ip.Unmap()
	for _, prefix := range d.allowed {
		if prefix.Contains(ip) {
			return nil
		}
	}
	if err := publicOnly.SafeAddr(ip); err != nil {
		return fmt.Errorf("%w: %w", errBlocked, err)
	}

	// This machine's public addresses are blocked like loopback: a firewall may
	// hide their services from everyone else.
	addrs, err := d.localAddrs()
	if err != nil {
		return fmt.Errorf("check whether %s is an address of this machine: %w", ip, err)
	}
	for _, addr := range addrs {
		if ipNet, ok := addr.(*net.IPNet); ok {
			if local, ok := netip.AddrFromSlice(ipNet.IP); ok && local.Unmap() == ip {
				return fmt.Errorf("%w: %s is an address of this machine", errBlocked, ip)
			}
		}
	}
	return nil
}

// checkHost checks a host without a DNS lookup: IP addresses as checkAddrPort
// does, and localhost. It is for hosts that a proxy looks up and connects to.
func (d *publicDialer) checkHost(host string, port uint16) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		return d.checkAddrPort(netip.AddrPortFrom(ip, port))
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return fmt.Errorf("%w: localhost", errBlocked)
	}
	return nil
}

// unmapPrefix turns an IPv4-mapped prefix, such as ::ffff:10.0.0.0/104, into
// the IPv4 one, 10.0.0.0/8, and clears the host bits of any prefix.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}
