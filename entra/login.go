package entra

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/oauth2"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/transport"
)

// offlineAccess is the scope with which v2 gives a refresh token.
const offlineAccess = "offline_access"

// Login is the interactive part of the authorization code grant, with PKCE, for a person at a
// browser: URL is opened there, the browser comes back to http://localhost:PORT (with or without a
// slash), and what it brings goes to Redeem. It is for one login, and one goroutine at a time.
type Login struct {
	t        *Tokens // without a credential
	oauth    oauth2.Config
	params   []oauth2.AuthCodeOption // of v1: the resource
	state    string
	verifier string
}

// LoggedIn is what came of a login.
type LoggedIn struct {
	RefreshToken conf.Secret
	Claims       Claims // of the access token; zero when that is opaque
}

// NewLogin prepares a login for a stanza with auth authorization_code, whose browser comes back to
// the port of the loopback interface. It neither touches the network nor the refresh token file, which may be in use.
// Close of the Login closes net.
func NewLogin(net *transport.Network, needs *Needs, cfg *conf.Config, port int) (*Login, error) {
	if cfg.Auth != conf.AuthorizationCode {
		return nil, fmt.Errorf("auth is %s: only authorization_code has a login", cfg.Auth)
	}
	token, err := transport.ParseAddress("token_url", cfg.TokenURL)
	if err != nil {
		return nil, err
	}
	authorize := *token
	if authorize.Path = strings.TrimSuffix(token.Path, "/token"); authorize.Path == token.Path {
		return nil, errors.New("token_url must end in /token: the address of the login is made from it")
	}
	authorize.Path += "/authorize"
	authorize.RawPath = ""
	l := &Login{
		t: without(net, needs, cfg), state: rand.Text(), verifier: oauth2.GenerateVerifier(),
		oauth: oauth2.Config{
			ClientID: cfg.ClientID,
			Endpoint: oauth2.Endpoint{
				AuthURL: authorize.String(), TokenURL: token.String(), AuthStyle: oauth2.AuthStyleInParams,
			},
			RedirectURL: "http://localhost:" + strconv.Itoa(port),
		},
	}
	if isV2(token) {
		l.oauth.Scopes = []string{cfg.Resource + "/.default", offlineAccess}
	} else {
		l.params = []oauth2.AuthCodeOption{oauth2.SetAuthURLParam("resource", cfg.Resource)}
	}
	net.Mask.Hide(l.verifier)
	return l, nil
}

// URL is the address of the page on which the person logs in and consents. It holds no secret.
func (l *Login) URL() string {
	return l.oauth.AuthCodeURL(l.state, append([]oauth2.AuthCodeOption{
		oauth2.S256ChallengeOption(l.verifier),
		oauth2.SetAuthURLParam("response_mode", "query"),
		oauth2.SetAuthURLParam("prompt", "select_account"), // the browser may be logged in as somebody else
	}, l.params...)...)
}

// ErrNotOurs is wrapped by the error of Redeem for a request that does not belong to this login: any
// page can send the browser to the port. It is best answered with 400, and the wait goes on.
var ErrNotOurs = errors.New("the request does not belong to this login")

// Redeem takes the query with which the browser came back and turns its code into tokens. Errors are
// *transport.Error, or wrap ErrNotOurs, ctx's error or transport.ErrClosed; none shows code, token or verifier.
func (l *Login) Redeem(ctx context.Context, back url.Values) (*LoggedIn, error) {
	if subtle.ConstantTimeCompare([]byte(back.Get("state")), []byte(l.state)) != 1 {
		return nil, fmt.Errorf("login: %w", ErrNotOurs)
	}
	if back.Get("error") != "" {
		return nil, l.refused(back)
	}
	code := back.Get("code")
	if code == "" {
		return nil, &transport.Error{Kind: transport.KindToken, Op: "login",
			What: "the browser brought no code", Remedy: "try again"}
	}
	l.t.net.Mask.Hide(code)
	w := &tokenWire{t: l.t, ctx: ctx}
	params := append([]oauth2.AuthCodeOption{oauth2.VerifierOption(l.verifier)}, l.params...)
	if len(l.oauth.Scopes) > 0 {
		params = append(params, oauth2.SetAuthURLParam("scope", strings.Join(l.oauth.Scopes, " ")))
	}
	tok, err := l.oauth.Exchange(w.context(), code, params...)
	if err != nil {
		return nil, w.failure(err)
	}
	l.t.net.Mask.Hide(tok.AccessToken)
	l.t.net.Mask.Hide(tok.RefreshToken)
	l.t.net.Clock.Observe(w.head, w.came)
	if tok.RefreshToken == "" {
		return nil, &transport.Error{Kind: transport.KindToken, Status: http.StatusOK, Op: "login",
			What:   "no refresh token came with the login",
			Remedy: "let the application ask for offline_access, under API permissions in Entra ID"}
	}
	in := &LoggedIn{RefreshToken: conf.Secret(tok.RefreshToken)}
	in.Claims, _ = l.t.claimsOf(tok.AccessToken)
	return in, nil
}

// refused is the error that the page sent back in place of a code.
func (l *Login) refused(back url.Values) *transport.Error {
	r := refusal{Error: back.Get("error"), Description: back.Get("error_description")}
	if !errorName.MatchString(r.Error) {
		r.Error = "an error of no known name"
	}
	e := &transport.Error{Kind: transport.KindToken, Op: "login", Said: r.quote(l.t.net.Mask)}
	code, known := r.code()
	e.Code = code
	if r.Error == "access_denied" && !known {
		e.What = "the person did not agree (access_denied)"
		e.Remedy = "try again and accept, or let an administrator grant consent"
		return e
	}
	e.What, e.Remedy = r.words(l.t.needs, conf.AuthorizationCode, grants, code, known, http.StatusBadRequest)
	return e
}

// Doubts is Tokens.Doubts for the claims of a login.
func (l *Login) Doubts(claims Claims) []Doubt { return l.t.Doubts(claims) }

// Close ends what is under way.
func (l *Login) Close() { l.t.net.Close() }
