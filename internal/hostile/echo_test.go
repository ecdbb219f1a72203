package hostile

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/flbhost"
)

// echo is an answer that gives back what it got: a proxy's error page, a debug endpoint, a login form.
type echo func(w http.ResponseWriter, credential string)

func body(status int, contentType, format string) echo {
	return func(w http.ResponseWriter, credential string) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprintf(w, format, credential)
	}
}

func head(status int, key, format string) echo {
	return func(w http.ResponseWriter, credential string) {
		w.Header().Set(key, fmt.Sprintf(format, credential))
		w.WriteHeader(status)
	}
}

// raw answers with bytes that need not be HTTP.
func raw(format string) echo {
	return func(w http.ResponseWriter, credential string) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		fmt.Fprintf(buf, format, credential)
		buf.Flush()
	}
}

// ofAlerts and ofTokens are the echoes of both sides.
var ofAlerts = map[string]echo{
	"text":            body(200, "text/plain", "GET /api/alerts\r\nAuthorization: Bearer %s\r\n"),
	"word":            body(200, "application/json", "%s"),
	"html":            body(200, "text/html", "<b>Bearer %s</b>"),
	"object":          body(200, "application/json", `{"auth":"Bearer %s"}`),
	"behind":          body(200, "application/json", `[]%s`),
	"syntax":          body(200, "application/json", `[%s]`),
	"encoding":        head(200, "Content-Encoding", "%s"),
	"400":             body(400, "application/json", `{"Message":"The header Authorization: Bearer %s is bad"}`),
	"401":             head(401, "WWW-Authenticate", "Bearer error=%s"),
	"403":             body(403, "text/plain", "%s"),
	"404":             body(404, "text/html", "<pre>%s</pre>"),
	"407":             head(407, "Proxy-Authenticate", "Basic realm=%s"),
	"429":             head(429, "Retry-After", "%s"),
	"500":             body(500, "text/plain", "token=%s"),
	"502 in words":    body(502, "text/plain", "we got %s and could not pass it on"),
	"location":        head(302, "Location", "https://elsewhere.example/?token=%s"),
	"location's host": head(307, "Location", "https://%s.elsewhere.example/"),
	"status line":     raw("HTTP/1.1 %s\r\n\r\n"),
	"status":          raw("%s\r\n\r\n"),
	"header":          raw("HTTP/1.1 200 OK\r\n%s\r\n\r\n"),
	"length":          raw("HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n"),
	"transfer":        raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n"),
	"chunk":           raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n"),
	"trailer":         raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n%s\r\n\r\n"),
	"gzip name": raw("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: " +
		"close\r\n\r\n\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xff%s"),
}

var ofTokens = map[string]echo{
	"text":   body(200, "text/plain", "client_secret=%s"),
	"word":   body(200, "application/json", "%s"),
	"type":   body(200, "application/json", `{"access_token":"x","token_type":"%s"}`),
	"life":   body(200, "application/json", `{"access_token":"x","expires_in":"%s"}`),
	"broken": body(200, "application/json", `{"access_token":"%s`),
	"description": body(400, "application/json",
		`{"error":"invalid_client","error_description":"AADSTS7000215: the secret %s is wrong."}`),
	"error": body(400, "application/json", `{"error":"%s"}`),
	"trace": body(400, "application/json",
		`{"error":"invalid_client","trace_id":"%[1]s","correlation_id":"%[1]s","timestamp":"%[1]s"}`),
	"401":           head(401, "WWW-Authenticate", "Basic realm=%s"),
	"500":           body(500, "text/plain", "form: client_secret=%s&resource=x"),
	"503 in words":  body(503, "text/plain", "we got %s and could not pass it on"),
	"location":      head(302, "Location", "https://elsewhere.example/?secret=%s"),
	"status line":   raw("HTTP/1.1 %s\r\n\r\n"),
	"header":        raw("HTTP/1.1 200 OK\r\n%s\r\n\r\n"),
	"length":        raw("HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n"),
	"trailer":       raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n%s\r\n\r\n"),
	"content types": head(200, "Content-Type", "%s"),
}

// A service, or a proxy before it, may give back what it was sent. It must not come to light by that either: not in
// the log, and not in the state file, where the reason of a gap stands.
func TestNoEchoBringsASecretToLight(t *testing.T) {
	t.Parallel()
	const token = "Zm9vYmFyYmF6cXV4/0123+opaque~token.1"
	forms := map[string]func(string) string{
		"raw": func(s string) string { return s }, "escaped": url.QueryEscape,
		"base64": func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	}
	for form, encode := range forms {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			var s secrets
			s.add(token)
			s.add(defendersim.DefaultSecret)
			login, ca := listen(t, func(w http.ResponseWriter, r *http.Request) {
				name, _ := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/"))
				if e := ofTokens[name]; e != nil {
					e(w, encode(r.PostFormValue("client_secret")))
					return
				}
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"access_token":%q,"expires_in":"3599","token_type":"Bearer"}`, token)
			})
			api, _ := listen(t, func(w http.ResponseWriter, r *http.Request) {
				name, _ := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/"))
				ofAlerts[name](w, encode(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")))
			})
			w := &world{T: t, dir: t.TempDir()}
			config := "[SERVICE]\n  log_level trace\n"
			stanza := func(side, name, url, tokenURL string) {
				c := w.config("trace", strings.Join([]string{
					"alias " + strings.ReplaceAll(side+" "+name, " ", "_"), "url " + url, "token_url " + tokenURL,
					"ca_file " + ca,
					"machine_groups " + side + name, "db " + filepath.Join(w.dir, "state.db"),
				}, ";"))
				config += c[strings.Index(c, "[INPUT]"):]
			}
			for name := range ofAlerts {
				stanza("api", name, api+"/"+url.PathEscape(name), login+"/token")
			}
			for name := range ofTokens {
				stanza("login", name, api+"/none", login+"/"+url.PathEscape(name))
			}
			said := &transcript{}
			o := options(config)
			o.Stderr = said
			h, _ := w.run(o)
			h.MustAwait(t, limit, "unread ranges", func(v *flbhost.View) bool {
				return v.CountLogs("error",
					"cannot read the alerts processed") >= 6
			})
			h.Await(2*time.Second, "some more", func(*flbhost.View) bool { return false })
			h.Look(func(v *flbhost.View) {
				for side, all := range map[string]map[string]echo{"api": ofAlerts, "login": ofTokens} {
					for name := range all {
						alias := strings.ReplaceAll(side+" "+name, " ", "_")
						said := map[string]string{"api": "", "login": "token request"}[side]
						if side == "login" && name == "life" { // the token is used all the same
							said = "the token does not say when it ends"
						}
						told := 0
						for _, level := range []string{"warn", "error"} {
							told += v.CountLogs(level, "[input:defender:"+alias+"] "+said)
						}
						if told == 0 {
							t.Errorf("nothing was told of %s", alias)
						}
					}
				}
			})
			h.MustStop(t, limit)
			s.search(t, "the log", said.text())
			s.searchFiles(t, w.dir, func(string) bool { return true })
		})
	}
}
