package source

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// CheckURL tells whether a source could be at the URL, by its form alone: http
// or https, and a host. It looks nothing up. The error is a [*photo.Failure]
// with the code [photo.InvalidURL], which quotes nothing of the URL.
func CheckURL(rawURL string) error {
	if _, failure := parseTarget(rawURL); failure != nil {
		return failure
	}
	return nil
}

// target is a URL that was checked by its form, and taken apart so that no
// part of it can be sent or shown by mistake.
type target struct {
	url  *url.URL      // without user and fragment; its host is lower-case ASCII
	user *url.Userinfo // nil if the URL names none
	host string        // without the port; equal for two spellings of one host
}

// parseTarget drops the errors of url.Parse, because they quote the URL.
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
	host, failure := cleanHost(u.Hostname())
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

// cleanHost brings a host name or IP address into the form in which it is
// looked up and sent. Underscores are not for hosts, but many have them.
func cleanHost(host string) (string, *photo.Failure) {
	if strings.Trim(host, ".") == "" {
		return "", photo.Fail(photo.InvalidURL, "the URL names no host")
	}
	if strings.Contains(host, ":") {
		ip, err := netip.ParseAddr(host)
		if err != nil || ip.Zone() != "" { // a zone means something on one machine only
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
	odd := strings.IndexFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
	if odd >= 0 || strings.Trim(host, ".") == "" || len(host) > 254 {
		return "", photo.Fail(photo.InvalidURL, "the URL's host is no host name")
	}
	return host, nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// sameOrigin tells whether credentials for one may be sent to the other.
func (t target) sameOrigin(other target) bool {
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
