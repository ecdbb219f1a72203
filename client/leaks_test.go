package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/simtest"
)

// An endpoint that gives back all it was sent, and what it gave before, in every place that an error could quote.
func TestNoCredentialIsInAnyErrorOrLog(t *testing.T) {
	for auth := range simtest.Credentials {
		t.Run(auth, func(t *testing.T) {
			simtest.Versions(t, auth, func(w *simtest.World) {
				if auth == conf.ClientCertificate {
					one := simtest.Certificate()
					der, err := pkcs12.Modern.Encode(one.Key, one.Cert, nil, "opensesame-password")
					if err != nil {
						w.Fatal(err)
					}
					w.Cfg.ClientCertificateFile = w.Write("app.pfx", string(der))
					w.Cfg.ClientCertificatePassword = "opensesame-password"
				}
				secrets := []string{}
				if auth == conf.ClientSecret {
					secrets = append(secrets, simtest.Secret)
				}
				if auth == conf.ClientCertificate {
					secrets = append(secrets, "opensesame-password")
				}
				w.Svc.SetTokenLife(time.Second)
				var answered string // the last token answer
				echo := -1
				w.Wire.Meanwhile(func(req *http.Request, form url.Values) (*http.Response, error) {
					for _, name := range []string{"client_secret", "client_assertion", "refresh_token"} {
						if form.Get(name) != "" {
							secrets = append(secrets, form.Get(name))
						}
					}
					if bearer, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok {
						secrets = append(secrets, bearer)
					}
					said := form.Encode() + " " + fmt.Sprint(form) + " " +
						req.Header.Get("Authorization") + " " + answered
					switch echo {
					case 0:
						return simtest.Reply(req, 400, simtest.Refused("invalid_request", "AADSTS900144: "+said)), nil
					case 1:
						return simtest.Reply(req, 401, simtest.Refused("invalid_client", said)), nil
					case 2:
						return simtest.Reply(req, 500, said), nil
					case 3:
						return simtest.Reply(req, 200, said, "Content-Type: text/plain"), nil
					case 4:
						return simtest.Reply(req, 302, "", "Location: https://evil.test/?"+said), nil
					case 5:
						return nil, errors.New("broken: " + said)
					case 6:
						return simtest.Reply(req, 403, "<p>"+said, "WWW-Authenticate: Bearer "+said), nil
					}
					resp, err := w.Wire.RoundTripper.RoundTrip(req)
					identity := auth == conf.ManagedIdentity && req.Header.Get("Metadata") != ""
					if err == nil && req.Method == "POST" || identity {
						text, _ := io.ReadAll(resp.Body)
						resp.Body.Close()
						answered = string(text)
						resp.Body = io.NopCloser(strings.NewReader(answered))
					}
					return resp, err
				})
				c := clientOf(w)
				good(w, c, "a token")
				var errs []string
				for echo = range 7 {
					time.Sleep(2 * time.Second)
					_, err := c.tokens.Get(context.Background()) // the token endpoint says so
					if err == nil {
						w.Fatalf("echo %d: no error", echo)
					}
					for ; err != nil; err = errors.Unwrap(err) {
						errs = append(errs, fmt.Sprintf("%v %+v %#v", err, err, err))
					}
				}
				echo = -1
				w.Svc.SetTokenLife(time.Hour)
				good(w, c, "a token")
				for echo = range 7 { // the API does
					if _, err := fetch(c, Query{}); err != nil {
						errs = append(errs, fmt.Sprintf("%v %+v", err, err))
					}
				}
				if len(errs) < 13 || len(secrets) < 4 {
					w.Fatalf("%d errors, %d secrets: the test shows nothing", len(errs), len(secrets))
				}
				secrets = append(secrets, answers(answered)...)
				simtest.Hides(w.T, strings.Join(errs, "\n"), secrets...)
				w.NoSecrets(secrets...)
				simtest.Hides(w.T, fmt.Sprintf("%v %+v", c, c.tokens), secrets...)
			})
		})
	}
}

// answers lists the tokens of a token answer.
func answers(text string) (tokens []string) {
	for _, name := range []string{"access_token", "refresh_token"} {
		if _, rest, ok := strings.Cut(text, `"`+name+`":"`); ok {
			token, _, _ := strings.Cut(rest, `"`)
			tokens = append(tokens, token)
		}
	}
	return tokens
}

// What files hold is in no error either, whatever it is.
func TestNoFileIsQuoted(t *testing.T) {
	const needle = "hunter2-opensesame-hunter2"
	texts := []string{
		needle, needle + "\n" + needle, "-----BEGIN PRIVATE KEY-----\n" + needle, "-----BEGIN " + needle + "-----\n",
	}
	kinds := []string{conf.ClientSecret, conf.ClientCertificate, conf.WorkloadIdentity, conf.AuthorizationCode}
	for _, text := range texts {
		for _, auth := range kinds {
			w := simtest.Stanza(t, auth, false)
			for _, path := range []string{
				w.Cfg.ClientSecretFile, w.Cfg.ClientCertificateFile, w.Cfg.FederatedTokenFile, w.Cfg.RefreshTokenFile,
			} {
				if path != "" {
					w.Cfg.ClientCertificatePassword = ""
					w.Write(path[len(w.Dir)+1:], text)
				}
			}
			w.Svc.OnRequest(func(defendersim.Request) *defendersim.Fault { return defendersim.Entra(7000215) })
			_, err := fetch(clientOf(w), Query{})
			if err == nil {
				t.Fatalf("%s: no error", auth)
			}
			simtest.Hides(t, fmt.Sprintf("%v %+v\n%s", err, err, w.Logged), needle)
		}
	}
}
