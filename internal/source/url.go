package source

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	whatwgerrors "github.com/nlnwa/whatwg-url/errors"
	whatwg "github.com/nlnwa/whatwg-url/url"

	"github.com/photo-processor/photo-processor/internal/photo"
)

// CheckURL checks the syntax of a source's URL: the scheme http or https, a
// valid host, and a port from 1 to 65535 if any. It makes no DNS lookup. A URL
// has at most 16 KiB, 1,000 slashes and 20 at signs in one path segment.
//
// A URL is parsed as browsers parse it, by the WHATWG URL standard: space
// around it is dropped, and characters that a request cannot contain are
// percent-encoded. What is percent-encoded already is sent unchanged.
//
// The error is a [*photo.Failure] with the code [photo.InvalidURL], and quotes
// no part of the URL.
func CheckURL(rawURL string) error {
	if _, failure := parseTarget(rawURL); failure != nil {
		return failure
	}
	return nil
}

// Host returns the host of a URL, for logs: the rest of a URL may be secret. It
// returns "" for a URL that CheckURL rejects.
func Host(rawURL string) string {
	t, failure := parseTarget(rawURL)
	if failure != nil {
		return ""
	}
	return t.base.Hostname()
}

// target is a checked URL, without the parts that must not be sent or logged by
// mistake.
type target struct {
	base *whatwg.Url   // the URL as parsed, which redirects are relative to
	url  *url.URL      // without user and fragment; its host is lower-case ASCII
	user *url.Userinfo // nil if the URL has none
	host string        // without the port; equal for all spellings of a host
}

// Limits of a URL that is parsed. The parser takes quadratic time in the number
// of at signs before the host, and of slashes. Web servers accept 8,000 bytes.
const (
	maxParsedBytes = 16 << 10
	maxAtSigns     = 20 // in one segment
	maxSlashes     = 1000
)

// isParsable reports whether a URL is within the limits of the parser, and has
// no zero byte, which PostgreSQL cannot store.
func isParsable(rawURL string) bool {
	if len(rawURL) > maxParsedBytes || strings.Contains(rawURL, "\x00") {
		return false
	}
	if end := strings.IndexAny(rawURL, "?#"); end >= 0 {
		rawURL = rawURL[:end]
	}
	segments := strings.Split(strings.ReplaceAll(rawURL, `\`, "/"), "/")
	return len(segments) <= maxSlashes+1 && !slices.ContainsFunc(segments, func(segment string) bool {
		return strings.Count(segment, "@") > maxAtSigns
	})
}

// parseTarget parses and checks a URL. It drops the parser's errors, because
// they quote the URL.
func parseTarget(rawURL string) (target, *photo.Failure) {
	if !isParsable(rawURL) {
		return target{}, photo.Fail(photo.InvalidURL, "the URL cannot be parsed")
	}
	u, err := whatwg.Parse(rawURL)
	if err != nil {
		return target{}, parseFailure(err)
	}
	return newTarget(u)
}

// parseFailure returns the failure for an error of the URL parser.
func parseFailure(err error) *photo.Failure {
	switch whatwgerrors.Type(err) {
	case whatwgerrors.MissingSchemeNonRelativeURL:
		return photo.Fail(photo.InvalidURL, "the URL is not http or https")
	case whatwgerrors.HostMissing, whatwgerrors.InvalidCredentials: // the latter: credentials without a host
		return photo.Fail(photo.InvalidURL, "the URL names no host")
	case whatwgerrors.PortOutOfRange:
		return photo.Fail(photo.InvalidURL, "the URL's port is not from 1 to 65535")
	case whatwgerrors.DomainToASCII, whatwgerrors.DomainInvalidCodePoint:
		return photo.Fail(photo.InvalidURL, "the URL's host is no host name")
	default:
		return photo.Fail(photo.InvalidURL, "the URL cannot be parsed")
	}
}

func newTarget(u *whatwg.Url) (target, *photo.Failure) {
	if u.Scheme() != "http" && u.Scheme() != "https" {
		return target{}, photo.Fail(photo.InvalidURL, "the URL is not http or https")
	}
	host, failure := canonicalHost(u.Hostname())
	if failure != nil {
		return target{}, failure
	}
	if u.Port() == "0" {
		return target{}, photo.Fail(photo.InvalidURL, "the URL's port is not from 1 to 65535")
	}

	rawPath := escapePath(u.Pathname())
	clean := &url.URL{
		Scheme:     u.Scheme(),
		Host:       host,
		Path:       percentDecode(rawPath),
		RawPath:    rawPath,
		RawQuery:   u.Query(),
		ForceQuery: strings.HasSuffix(u.Href(true), "?"),
	}
	if strings.Contains(host, ":") {
		clean.Host = "[" + host + "]"
	}
	if u.Port() != "" {
		clean.Host += ":" + u.Port()
	}
	t := target{base: u, url: clean, host: strings.TrimSuffix(host, ".")}
	if u.Username() != "" || u.Password() != "" {
		t.user = url.UserPassword(percentDecode(u.Username()), percentDecode(u.Password()))
	}
	return t, nil
}

// escapePath percent-encodes the characters that a URL's path may contain and
// that net/url would encode. If one remained, net/url would encode the whole
// path anew, and turn %2F into a slash.
func escapePath(path string) string {
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		switch {
		case c == '%' && !isPercentEncoded(path[i:]), c == '^', c == '|', c == '\\', c == '`':
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// escapeInvalidUTF8 percent-encodes the bytes of a Location header that are not
// UTF-8, as browsers do. The URL parser would replace them.
func escapeInvalidUTF8(location string) string {
	var b strings.Builder
	for i := 0; i < len(location); {
		r, size := utf8.DecodeRuneInString(location[i:])
		if r == utf8.RuneError && size == 1 {
			fmt.Fprintf(&b, "%%%02X", location[i])
		} else {
			b.WriteString(location[i : i+size])
		}
		i += size
	}
	return b.String()
}

// isPercentEncoded reports whether s begins with a percent-encoded byte.
func isPercentEncoded(s string) bool {
	_, err := url.PathUnescape(s[:min(len(s), 3)])
	return err == nil && strings.HasPrefix(s, "%")
}

// percentDecode decodes the percent-encoded bytes of s, and keeps other percent
// signs.
func percentDecode(s string) string {
	decoded, _ := url.PathUnescape(escapePath(s)) // cannot fail after escapePath
	return decoded
}

// canonicalHost returns a parsed host name or IP address in the form in which
// it is looked up and sent: lower-case ASCII. It permits underscores, which are
// invalid in host names but common, and one trailing dot.
//
// It refuses empty labels, and names that end in a number but are no dotted
// quad. The URL parser turns other spellings of IPv4 addresses into dotted
// quads, but not if more dots follow, and a proxy's resolver may accept both.
func canonicalHost(host string) (string, *photo.Failure) {
	if strings.Trim(host, ".") == "" {
		return "", photo.Fail(photo.InvalidURL, "the URL names no host")
	}
	if strings.HasPrefix(host, "[") {
		ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if err != nil || ip.Zone() != "" { // a zone has a meaning only on one machine
			return "", photo.Fail(photo.InvalidURL, "the URL's host is not an IPv6 address")
		}
		return ip.String(), nil
	}
	host = strings.ToLower(host)
	invalid := strings.IndexFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
	name := strings.TrimSuffix(host, ".")
	labels := strings.Split(name, ".")
	_, err := netip.ParseAddr(name)
	if invalid >= 0 || len(host) > 254 || slices.Contains(labels, "") || err != nil && isNumber(labels[len(labels)-1]) {
		return "", photo.Fail(photo.InvalidURL, "the URL's host is no host name")
	}
	return host, nil
}

// isNumber reports whether a lower-case label is a decimal, octal or
// hexadecimal number to the WHATWG URL standard, to which "0x" is one.
func isNumber(label string) bool {
	if digits, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
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
