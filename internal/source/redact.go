package source

import (
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"

	whatwg "github.com/nlnwa/whatwg-url/url"
)

// RedactURL replaces a password in a URL with "xxxxx". It returns a URL without
// credentials unchanged. It parses URLs like [CheckURL], so that it finds every
// password that a fetch would send.
func RedactURL(rawURL string) string {
	if !strings.Contains(rawURL, "@") { // credentials end with it; lists have a thousand URLs
		return rawURL
	}
	if !isParsable(rawURL) {
		return redactLeniently(rawURL)
	}
	u, err := whatwg.Parse(rawURL)
	if err != nil {
		return redactLeniently(rawURL)
	}
	if u.Password() == "" {
		return rawURL
	}
	u.SetPassword("xxxxx")
	return u.Href(false)
}

// redactLeniently redacts a URL that CheckURL rejects. Rows that were not
// inserted by the API may have one.
func redactLeniently(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil && u.User != nil {
		return u.Redacted()
	}
	return rawURL
}

// maxCauseBytes keeps a source from writing pages into the log.
const maxCauseBytes = 300

// redact makes an error's text fit for the log: it replaces the secrets of the
// URLs and unprintable characters, and cuts the text to maxCauseBytes. The
// errors of net and net/http contain no URLs, but some quote the response, and
// a source may repeat the request in its response.
func (d *download) redact(text string) string {
	text = strings.NewReplacer(d.secrets...).Replace(text)
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
