package source

import (
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/photo-processor/photo-processor/internal/photo"
)

func TestCheckAddr(t *testing.T) {
	t.Parallel()
	refused := map[string][]string{
		"this network, unspecified": {"0.0.0.0", "0.0.0.1", "0.255.255.255", "::"},
		"loopback":                  {"127.0.0.0", "127.0.0.1", "127.1.2.3", "127.255.255.255", "::1"},
		"private":                   {"10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"},
		"carrier-grade NAT":         {"100.64.0.0", "100.100.100.200", "100.127.255.255"},
		"link-local":                {"169.254.0.0", "169.254.255.255", "fe80::", "fe80::1", "fe80::1%lo", "febf::1"},
		"cloud metadata": {
			"169.254.169.254", "169.254.170.2", "169.254.42.42", "168.63.129.16", "192.0.0.192",
			"fd00:ec2::254", "fd20:ce::254", "fd00:42::42", "fe80::a9fe:a9fe", "::ffff:168.63.129.16",
		},
		"unique local":  {"fc00::", "fc00::1", "fd00::1", "fdff:ffff::1"},
		"site-local":    {"fec0::1", "feff::1"},
		"multicast":     {"224.0.0.0", "224.0.0.251", "239.255.255.255", "ff00::", "ff02::1", "ff0e::1", "ffff::1"},
		"reserved":      {"240.0.0.0", "250.1.2.3", "255.255.255.254"},
		"broadcast":     {"255.255.255.255"},
		"protocols":     {"192.0.0.0", "192.0.0.8", "192.0.0.170", "192.0.0.255", "2001::", "2001:1::1", "2001:1ff::1"},
		"documentation": {"192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1", "3fff:fff::1"},
		"benchmarking":  {"198.18.0.0", "198.19.255.255", "2001:2::1"},
		"AS112, AMT":    {"192.31.196.1", "192.52.193.1", "192.175.48.1", "2620:4f:8000::1", "2001:4:112::1", "2001:3::1"},
		"ORCHID":        {"2001:10::1", "2001:20::1"},
		"IPv4-mapped": {
			"::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:172.16.0.1", "::ffff:192.168.0.1",
			"::ffff:169.254.169.254", "::ffff:100.64.0.1", "::ffff:255.255.255.255", "::ffff:7f00:1",
		},
		"IPv4-compatible":     {"::127.0.0.1", "::10.0.0.1", "::8.8.8.8", "::7f00:1"},
		"IPv4-translated":     {"::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"},
		"NAT64":               {"64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::8.8.8.8"},
		"local NAT64":         {"64:ff9b:1::", "64:ff9b:1::10.0.0.1", "64:ff9b:1:ffff::1"},
		"6to4":                {"192.88.99.1", "2002::", "2002:7f00:1::", "2002:a00:1::1", "2002:808:808::1", "2002:ffff::1"},
		"Teredo":              {"2001:0:0:0::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"},
		"discard":             {"100::1", "100:0:0:1::1"},
		"segment routing":     {"5f00::1"},
		"outside of 2000::/3": {"1::1", "1fff::1", "4000::1", "8000::1", "c000::1", "e000::1"},
		"with a zone":         {"2606:4700::1%eth0"},
	}
	f := setup(t, func(c *Config) { c.AllowCIDRs = nil })
	for name, addresses := range refused {
		t.Run(name, func(t *testing.T) {
			for _, address := range addresses {
				assert.ErrorIs(t, f.dialer.checkAddr(netip.MustParseAddr(address)), errBlocked, address)
			}
		})
	}

	t.Run("public", func(t *testing.T) {
		for _, address := range []string{
			"1.0.0.0", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
			"128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
			"191.255.255.255", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
			"223.255.255.255", "::ffff:8.8.8.8",
			"2000::1", "2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700:4700::1111", "2a00:1450::1", "3ffe::1",
		} {
			assert.NoError(t, f.dialer.checkAddr(netip.MustParseAddr(address)), address)
		}
	})
}

func TestCheckAddrAllowed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		networks, permitted, blocked []string
	}{
		"IPv4": {
			networks:  []string{"10.1.0.0/16"},
			permitted: []string{"10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3"},
			blocked:   []string{"10.0.255.255", "10.2.0.0", "::ffff:10.2.0.0", "127.0.0.1", "::10.1.2.3", "64:ff9b::10.1.2.3", "2002:a01:203::1"},
		},
		"host bits set": {
			networks:  []string{"10.1.2.3/16"},
			permitted: []string{"10.1.0.0"},
			blocked:   []string{"10.2.0.0"},
		},
		"IPv4 in its mapped form": {
			networks:  []string{"::ffff:10.0.0.0/104"},
			permitted: []string{"10.1.2.3", "::ffff:10.1.2.3"},
			blocked:   []string{"127.0.0.1"},
		},
		"IPv6": {
			networks:  []string{"fd12:3456::/32"},
			permitted: []string{"fd12:3456::1"},
			blocked:   []string{"fd12:3457::1", "::1", "10.0.0.1"},
		},
		"all of IPv6 permits no IPv4": {
			networks:  []string{"::/0"},
			permitted: []string{"::1", "fe80::1"},
			blocked:   []string{"127.0.0.1", "::ffff:127.0.0.1"},
		},
		"several": {
			networks:  []string{"127.0.0.1/32", "::1/128"},
			permitted: []string{"127.0.0.1", "::1"},
			blocked:   []string{"127.0.0.2", "::2"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(c *Config) {
				c.AllowCIDRs = nil
				for _, cidr := range test.networks {
					c.AllowCIDRs = append(c.AllowCIDRs, netip.MustParsePrefix(cidr))
				}
			})
			for _, address := range test.permitted {
				assert.NoError(t, f.dialer.checkAddr(netip.MustParseAddr(address)), address)
			}
			for _, address := range test.blocked {
				assert.ErrorIs(t, f.dialer.checkAddr(netip.MustParseAddr(address)), errBlocked, address)
			}
		})
	}
}

func TestCheckAddrPort(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) {
		c.AllowCIDRs = nil
		c.AllowAddresses = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:3100"), netip.MustParseAddrPort("[::ffff:10.0.0.1]:80")}
	})
	for _, address := range []string{"127.0.0.1:3100", "[::ffff:127.0.0.1]:3100", "10.0.0.1:80", "8.8.8.8:3100", "8.8.8.8:80"} {
		assert.NoError(t, f.dialer.checkAddrPort(netip.MustParseAddrPort(address)), address)
	}
	for _, address := range []string{"127.0.0.1:3101", "127.0.0.2:3100", "[::1]:3100", "10.0.0.1:443"} {
		assert.ErrorIs(t, f.dialer.checkAddrPort(netip.MustParseAddrPort(address)), errBlocked, address)
		a := netip.MustParseAddrPort(address)
		assert.ErrorIs(t, f.dialer.checkHost(a.Addr().String(), a.Port()), errBlocked, address)
	}
	assert.NoError(t, f.dialer.checkHost("127.0.0.1", 3100))
}

func TestCheckAddrLocal(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) { c.AllowCIDRs = []netip.Prefix{netip.MustParsePrefix("9.9.9.0/24")} })
	f.dialer.localAddrs = func() ([]net.Addr, error) {
		return []net.Addr{
			&net.IPNet{IP: net.ParseIP("8.8.4.4"), Mask: net.CIDRMask(24, 32)},
			&net.IPNet{IP: net.ParseIP("2606:4700::1"), Mask: net.CIDRMask(64, 128)},
			&net.IPNet{IP: net.ParseIP("9.9.9.9"), Mask: net.CIDRMask(24, 32)},
		}, nil
	}
	for _, address := range []string{"8.8.4.4", "::ffff:8.8.4.4", "2606:4700::1"} {
		assert.ErrorIs(t, f.dialer.checkAddr(netip.MustParseAddr(address)), errBlocked, address)
	}
	for _, address := range []string{"8.8.4.5", "2606:4700::2", "9.9.9.9"} {
		assert.NoError(t, f.dialer.checkAddr(netip.MustParseAddr(address)), address)
	}

	// The error is transient, so the address is neither permitted nor blocked.
	errNetlink := errors.New("no netlink")
	f.dialer.localAddrs = func() ([]net.Addr, error) { return nil, errNetlink }
	err := f.dialer.checkAddr(netip.MustParseAddr("8.8.8.8"))
	assert.ErrorIs(t, err, errNetlink)
	assert.NotErrorIs(t, err, errBlocked)
}

// Every spelling of an address is checked in the form that the socket connects
// to.
func TestDialContext(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) { c.AllowCIDRs = nil })
	blocked, requireUnused := listenBlocked(t, blockedAddr)
	port := portOf(t, blocked)
	for _, address := range []string{
		blocked, "[::ffff:127.0.0.2]:" + port, "[::ffff:7f00:2]:" + port, "localhost:" + port, "[::1]:" + port, "0.0.0.0:" + port, "[::]:" + port, ":" + port,
		"169.254.169.254:80", "[fe80::1%lo]:80", "[64:ff9b::7f00:1]:80",
	} {
		_, err := f.dialer.dialContext(context.Background(), "tcp", address)
		assert.ErrorIs(t, err, errBlocked, address)
	}
	requireUnused()
}

func TestFetchBlocksIPv6Loopback(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	blocked, requireUnused := listenBlocked(t, blockedIPv6)
	_, _, err := fetch(t, f, "http://"+blocked)
	requireFailure(t, err, photo.SourceBlocked, "the source is at an address that is not public")
	requireUnused()
}

func TestFetchAllowedIPv6(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *Config) { c.AllowCIDRs = []netip.Prefix{netip.MustParsePrefix("::1/128")} })
	server := httptest.NewUnstartedServer(textHandler("photo"))
	server.Listener.Close()
	server.Listener = listen(t, blockedIPv6)
	server.Start()
	defer server.Close()
	written, _, err := fetch(t, f, server.URL)
	require.NoError(t, err)
	require.Equal(t, "photo", written)
}
