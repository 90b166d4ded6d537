package source

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	whatwg "github.com/nlnwa/whatwg-url/url"
)

// redacted replaces the secrets of URLs, as net/url does with passwords.
const redacted = "xxxxx"

// RedactURL replaces the password and the values of the query in a URL with
// "xxxxx", and keeps the names of the query. Signed URLs have their signature
// in the query. It returns a URL without credentials and query unchanged.
//
// Of a URL that [CheckURL] cannot parse it keeps only a scheme and a host that
// are certain. Rows that were not inserted by the API may have one.
func RedactURL(rawURL string) string { return redactQuery(RedactPassword(rawURL)) }

// RedactPassword is [RedactURL] without the query, which stays.
//
// It parses URLs like CheckURL, so that it finds every password that a fetch
// would send.
func RedactPassword(rawURL string) string {
	if rawURL == "" {
		return ""
	}
	if !strings.Contains(rawURL, "@") { // credentials end with it; lists have a thousand URLs
		if u, err := url.Parse(rawURL); err == nil && (u.Scheme == "http" || u.Scheme == "https") && isParsable(rawURL) && isPlainHost(u.Host) {
			return rawURL
		}
	}
	if !isParsable(rawURL) {
		return redactUnparsable(rawURL)
	}
	u, err := whatwg.Parse(rawURL)
	if err != nil || u.Hostname() == "" && strings.Contains(rawURL, "@") { // the latter: no scheme but a user
		return redactUnparsable(rawURL)
	}
	if u.Password() == "" {
		return rawURL
	}
	u.SetPassword(redacted)
	return u.Href(false)
}

// isPlainHost reports whether a host is a name without a port, so that it
// cannot be a user and a password that lack the rest of their URL.
func isPlainHost(host string) bool {
	name, failure := canonicalHost(host)
	return failure == nil && name == strings.ToLower(host)
}

// redactUnparsable redacts a URL that the parser rejects. Its scheme and host
// are certain if net/url agrees on them, and nothing can be credentials.
func redactUnparsable(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil || strings.ContainsAny(rawURL, `@\`) || u.Scheme != "http" && u.Scheme != "https" || !isPlainHost(u.Hostname()) {
		return redacted
	}
	return u.Scheme + "://" + u.Hostname() + "/" + redacted
}

// redactQuery replaces the values of a URL's query. A parameter without a value
// is replaced as a whole: it may be a token.
func redactQuery(rawURL string) string {
	rest, fragment, hasFragment := strings.Cut(rawURL, "#")
	path, query, hasQuery := strings.Cut(rest, "?")
	if !hasQuery {
		return rawURL
	}
	parameters := strings.Split(query, "&")
	for i, parameter := range parameters {
		switch name, value, _ := strings.Cut(parameter, "="); {
		case strings.Trim(value, "=") != "": // "=" alone may be the padding of base64
			parameters[i] = name + "=" + redacted
		case parameter != "":
			parameters[i] = redacted
		}
	}
	shown := path + "?" + strings.Join(parameters, "&")
	if hasFragment {
		shown += "#" + fragment
	}
	return shown
}

// maxCauseBytes keeps a source from writing pages into the log.
const maxCauseBytes = 300

// redact makes an error's text fit for the log: it removes what the source sent
// and the secrets of the URLs, replaces unprintable characters, and cuts the
// text to maxCauseBytes. The errors of net and net/http contain no URLs, but
// some quote the response, and a source may repeat the request in its response.
func (d *download) redact(err error) string {
	text := err.Error()
	if _, ok := errors.AsType[x509.HostnameError](err); ok { // its text has the certificate's names, without quotes
		text = "x509: the certificate is not valid for the source's host"
	}
	text = strings.NewReplacer(d.secrets...).Replace(CutQuoted(text))
	text = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
	if len(text) > maxCauseBytes {
		text = strings.ToValidUTF8(text[:maxCauseBytes], "") + "…"
	}
	return text
}

// CutQuoted replaces every string in double quotes with "…". Go's packages quote
// the bytes of a peer so in their errors and log lines.
func CutQuoted(text string) string { return quotedString.ReplaceAllString(text, `"…"`) }

// quotedString matches a string as %q formats it, also one without its end.
var quotedString = regexp.MustCompile(`"(?:[^"\\]|\\.)*(?:"|\\?$)`)

// addSecrets has redact replace the user, the password and the query of a URL.
func (d *download) addSecrets(t target) {
	var secrets []string
	if t.user != nil {
		password, _ := t.user.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(t.user.Username() + ":" + password))
		secrets = append(secrets, basic, t.user.String(), password, t.user.Username())
	}
	secrets = append(secrets, t.url.RawQuery)
	for _, secret := range secrets {
		quoted := strconv.Quote(secret) // as %q in an error does it
		for _, s := range []string{secret, quoted[1 : len(quoted)-1]} {
			if s != "" {
				d.secrets = append(d.secrets, s, "[redacted]")
			}
		}
	}
}
