package source

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// CheckURL checks the syntax of a source's URL: the scheme http or https, a
// valid host, and a port from 1 to 65535 if any. It makes no DNS lookup. The
// error is a [*photo.Failure] with the code [photo.InvalidURL], and quotes no
// part of the URL.
func CheckURL(rawURL string) error {
	if _, failure := parseTarget(rawURL); failure != nil {
		return failure
	}
	return nil
}

// target is a checked URL, without the parts that must not be sent or logged by
// mistake.
type target struct {
	url  *url.URL      // without user and fragment; its host is lower-case ASCII
	user *url.Userinfo // nil if the URL has none
	host string        // without the port; equal for all spellings of a host
}

// parseTarget parses and checks a URL. It drops the errors of url.Parse,
// because they quote the URL.
func parseTarget(rawURL string) (target, *photo.Failure) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return target{}, photo.Fail(photo.InvalidURL, "the URL cannot be parsed")
	}
	return newTarget(u)
}

func newTarget(u *url.URL) (target, *photo.Failure) {
	if u.Scheme != "http" && u.Scheme != "https" {
		return target{}, photo.Fail(photo.InvalidURL, "the URL is not http or https")
	}
	host, failure := canonicalHost(u.Hostname())
	if failure != nil {
		return target{}, failure
	}
	port := u.Port()
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return target{}, photo.Fail(photo.InvalidURL, "the URL's port is not from 1 to 65535")
		}
	}

	clean := *u
	clean.User, clean.Fragment, clean.RawFragment = nil, "", ""
	clean.Host = host
	if strings.Contains(host, ":") {
		clean.Host = "[" + host + "]"
	}
	if port != "" {
		clean.Host += ":" + port
	}
	return target{url: &clean, user: u.User, host: strings.TrimSuffix(host, ".")}, nil
}

// canonicalHost returns a host name or IP address in the form in which it is
// looked up and sent: lower-case ASCII. It permits underscores, which are
// invalid in host names but common.
func canonicalHost(host string) (string, *photo.Failure) {
	if strings.Trim(host, ".") == "" {
		return "", photo.Fail(photo.InvalidURL, "the URL names no host")
	}
	if strings.Contains(host, ":") {
		ip, err := netip.ParseAddr(host)
		if err != nil || ip.Zone() != "" { // a zone has a meaning only on one machine
			return "", photo.Fail(photo.InvalidURL, "the URL's host is not an IPv6 address")
		}
		return ip.String(), nil
	}
	if !isASCII(host) {
		ascii, err := idna.Lookup.ToASCII(host)
		if err != nil {
			return "", photo.Fail(photo.InvalidURL, "the URL's host is no host name")
		}
		host = ascii
	}
	host = strings.ToLower(host)
	invalid := strings.IndexFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
	if invalid >= 0 || strings.Trim(host, ".") == "" || len(host) > 254 {
		return "", photo.Fail(photo.InvalidURL, "the URL's host is no host name")
	}
	return host, nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// hasSameOrigin reports whether both targets have the same scheme, host and
// port, so that the credentials for one may be sent to the other.
func (t target) hasSameOrigin(other target) bool {
	return t.url.Scheme == other.url.Scheme && t.host == other.host && t.port() == other.port()
}

func (t target) port() string {
	switch {
	case t.url.Port() != "":
		return t.url.Port()
	case t.url.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}
