package defendersim

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/errors"
	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/server"
)

// newOAuth sets the OAuth 2.0 library up: it does the grants (client, secret, code, PKCE, refresh, token), this
// package gives it a clock, a store without goroutines, and Entra ID's words.
func (s *Service) newOAuth() *server.Server {
	m := manage.NewManager()
	m.MapClientStorage(s.apps)
	m.MapTokenStorage(s.tokens)
	m.MapAccessGenerate(s.issuer)
	m.MapAuthorizeGenerate(codes{s.issuer})
	m.SetValidateURIHandler(checkRedirect)
	// Lives of codes and refresh tokens are the store's, by the service's clock.
	m.SetAuthorizeCodeTokenCfg(&manage.Config{IsGenerateRefresh: true})
	m.SetRefreshTokenCfg(&manage.RefreshingConfig{IsGenerateRefresh: true})
	cfg := server.NewConfig()
	cfg.AllowedResponseTypes = []oauth2.ResponseType{oauth2.Code}
	cfg.AllowedGrantTypes = []oauth2.GrantType{oauth2.ClientCredentials, oauth2.AuthorizationCode, oauth2.Refreshing}
	srv := server.NewServer(cfg, m)
	srv.SetClientInfoHandler(client)
	srv.SetUserAuthorizationHandler(consent)
	srv.SetPreRedirectErrorHandler(func(w http.ResponseWriter, _ *server.AuthorizeRequest, err error) error {
		code := 900144
		switch e := err.(type) {
		case entraRefusal:
			code = int(e)
		default:
			if err == errors.ErrInvalidCodeChallengeLen || err == errors.ErrUnsupportedCodeChallengeMethod {
				code = 50147
			}
		}
		w.(answerWriter).x.errorPage(code)
		return nil
	})
	srv.SetInternalErrorHandler(func(err error) *errors.Response {
		if e, ok := err.(entraRefusal); ok {
			return &errors.Response{Error: err, ErrorCode: int(e)}
		}
		if err == errors.ErrMissingCodeVerifier {
			return &errors.Response{Error: err, ErrorCode: 501481}
		}
		return nil
	})
	srv.SetResponseErrorHandler(func(r *errors.Response) {
		if r.ErrorCode == 0 {
			switch r.Error {
			case errors.ErrInvalidClient:
				r.ErrorCode = 7000215
			case errors.ErrInvalidGrant: // what else a grant can lack was checked before
				r.ErrorCode = 501481
			case errors.ErrUnsupportedGrantType, errors.ErrUnauthorizedClient:
				r.ErrorCode = 70003
			case errors.ErrInvalidRequest:
				r.ErrorCode = 900144
			default:
				r.ErrorCode = 90033
			}
		}
	})
	srv.SetExtensionFieldsHandler(func(t oauth2.TokenInfo) map[string]any { return map[string]any{"info": t} })
	srv.SetResponseTokenHandler(func(w http.ResponseWriter, data map[string]any, _ http.Header, _ ...int) error {
		x := w.(answerWriter).x
		if code, ok := data["error_code"].(int); ok {
			x.entraError(code, 0)
			return nil
		}
		x.token(data["info"].(*models.Token))
		return nil
	})
	return srv
}

// entraRefusal is an AADSTS number on its way through the library.
type entraRefusal int

func (e entraRefusal) Error() string { return fmt.Sprintf("AADSTS%d", int(e)) }

// answerWriter leads the library's answers back to the exchange.
type answerWriter struct {
	http.ResponseWriter
	x *exchange
}

func (w answerWriter) WriteHeader(status int) {
	if status == http.StatusFound {
		w.x.leadBack(w.Header().Get("Location"))
		return
	}
	w.x.header(status)
}

// provenKey marks the context of a request whose client proved itself by other means than a secret.
type provenKey struct{}

// client tells the library who asks.
func client(r *http.Request) (id, secret string, err error) {
	id, secret = r.Form.Get("client_id"), r.Form.Get("client_secret")
	if user, pass, ok := r.BasicAuth(); ok { // both percent-encoded, by RFC 6749
		user, err1 := url.QueryUnescape(user)
		pass, err2 := url.QueryUnescape(pass)
		if err1 == nil && err2 == nil {
			id, secret = user, pass
		}
	}
	if r.Context().Value(provenKey{}) != nil {
		return id, proven, nil
	}
	if secret == proven {
		secret = ""
	}
	return id, secret, nil
}

// serveToken checks what is Entra ID's own (tenant, form, v1 against v2, resource, assertions) and leaves the rest to
// the library.
func (x *exchange) serveToken() {
	if x.req.badness != nil {
		x.entraError(900144, 0)
		return
	}
	// The library looks into the URL too; Entra ID does not.
	x.r.Form = x.r.PostForm
	if code := x.refuseToken(x.r.Form); code != 0 {
		x.entraError(code, 0)
		return
	}
	if err := x.s.oauth.HandleTokenRequest(answerWriter{x.w, x}, x.r); err != nil {
		panic(fmt.Sprintf("defendersim: token answer: %v", err))
	}
}

func (x *exchange) refuseToken(form url.Values) int {
	_, _, basic := x.r.BasicAuth()
	has := func(name string) bool { return form.Get(name) != "" }
	grant := form.Get("grant_type")
	switch {
	case x.r.Method != http.MethodPost:
		return 900561
	case !strings.EqualFold(x.req.tenant, x.s.cfg.Tenant):
		return 90002
	case x.s.refuses():
		return 7000229
	case grant == "", !has("client_id") && !basic:
		return 900144
	case grant != "client_credentials" && grant != "authorization_code" && grant != "refresh_token":
		return 70003
	case x.req.Version == 2 && has("resource"):
		return 901002
	}
	if grant == "client_credentials" {
		switch {
		case x.req.Version == 1 && !has("resource"), x.req.Version == 2 && !has("scope"):
			return 900144
		case !has("client_secret") && !has("client_assertion") && !basic:
			return 7000218
		case x.req.Version == 2 && !strings.HasSuffix(form.Get("scope"), "/.default"):
			return 1002012
		}
	}
	if a := audienceOf(form); a != "" && !x.s.gives(a) {
		return 500011
	}
	if grant == "client_credentials" && !has("client_assertion") {
		return 0 // the library knows the secrets
	}
	if code := x.prove(form, grant); code != 0 {
		return code
	}
	if grant == "authorization_code" {
		return x.refuseCode(form)
	}
	if grant == "refresh_token" && !has("refresh_token") {
		return 900144
	}
	if grant == "refresh_token" {
		return x.s.tokens.refuseRefresh(form.Get("refresh_token"), x.clientID())
	}
	return 0
}

func (x *exchange) clientID() string { id, _, _ := client(x.r); return id }

// prove checks the client itself, where the library does not: assertions, and any credential of the grants of people.
func (x *exchange) prove(form url.Values, grant string) int {
	id, secret, _ := client(x.r)
	a, ok := x.s.apps.find(id)
	switch {
	case !ok:
		return 700016
	case a.public && grant != "client_credentials" && (secret != "" || form.Get("client_assertion") != ""):
		return 700025
	case a.public && grant != "client_credentials":
	case form.Get("client_assertion") != "":
		if code := x.checkAssertion(id, a, form); code != 0 {
			return code
		}
	case secret == "":
		return 7000218
	case !slices.Contains(a.secrets, secret):
		return 7000215
	}
	x.r = x.r.WithContext(context.WithValue(x.r.Context(), provenKey{}, true))
	return 0
}

func (s *Service) refuses() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// gives tells whether the tenant gives tokens for a resource.
func (s *Service) gives(audience string) bool {
	return slices.Contains(s.cfg.Audiences, audience) || s.isGraph(audience) ||
		slices.Contains(s.cfg.Resources, audience)
}

// audienceOf is the resource a request asks for; "" when it names none.
func audienceOf(form url.Values) string {
	if resource := form.Get("resource"); resource != "" {
		return resource
	}
	for _, scope := range strings.Fields(form.Get("scope")) {
		if audience, ok := strings.CutSuffix(scope, "/.default"); ok {
			return audience
		}
		if i := strings.LastIndexByte(scope, '/'); i >= 0 { // a permission of the resource
			return scope[:i]
		}
	}
	return ""
}

// token answers with a token: v1 with the keys, the order and the strings of the seed's example, v2 with numbers.
func (x *exchange) token(t *models.Token) {
	x.s.mu.Lock()
	x.s.stats.Issued++
	x.s.mu.Unlock()
	x.w.Header().Set("Cache-Control", "no-store, no-cache")
	x.w.Header().Set("Pragma", "no-cache")
	life := int64(t.AccessExpiresIn.Seconds())
	scope := ""
	if t.UserID != "" {
		scope = t.Extension.Get("scp")
	}
	if x.req.Version == 2 {
		x.json(http.StatusOK, struct {
			TokenType    string `json:"token_type"`
			Scope        string `json:"scope,omitempty"`
			ExpiresIn    int64  `json:"expires_in"`
			ExtExpiresIn int64  `json:"ext_expires_in"`
			AccessToken  string `json:"access_token"`
			RefreshToken string `json:"refresh_token,omitempty"`
		}{"Bearer", scope, life, life, t.Access, t.Refresh})
		return
	}
	x.json(http.StatusOK, struct {
		TokenType    string `json:"token_type"`
		Scope        string `json:"scope,omitempty"`
		ExpiresIn    string `json:"expires_in"`
		ExtExpiresIn string `json:"ext_expires_in"`
		ExpiresOn    string `json:"expires_on"`
		NotBefore    string `json:"not_before"`
		Resource     string `json:"resource"`
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token,omitempty"`
	}{
		"Bearer", scope, unix(life), "0", unix(t.AccessCreateAt.Unix() + life), unix(t.AccessCreateAt.Unix()),
		t.Extension.Get("audience"), t.Access, t.Refresh,
	})
}

func unix(n int64) string { return strconv.FormatInt(n, 10) }

// entraError answers with an error of Entra ID; status 0: the error's own.
func (x *exchange) entraError(code, status int) {
	e := entraErrors[code]
	if status == 0 {
		status = e.status
	}
	trace, correlation, at := x.uuid(), x.uuid(), x.stamp()
	text := x.entraText(code, trace, correlation, at)
	if e.error == "invalid_client" {
		x.w.Header().Set("WWW-Authenticate", `Basic realm="login"`)
	}
	body := struct {
		Error         string `json:"error"`
		Description   string `json:"error_description"`
		Codes         []int  `json:"error_codes"`
		Timestamp     string `json:"timestamp"`
		TraceID       string `json:"trace_id"`
		CorrelationID string `json:"correlation_id"`
		URI           string `json:"error_uri"`
	}{e.error, text, []int{code}, at, trace, correlation, fmt.Sprintf("%s/error?code=%d", LoginHost, code)}
	raw, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("defendersim: %v", err))
	}
	out := x.open(status, "application/json; charset=utf-8", int64(len(raw)))
	if _, err := out.Write(raw); err == nil {
		out.finish()
	}
}

// entraText is the description of an error.
func (x *exchange) entraText(code int, trace, correlation, at string) string {
	gap := " "
	if x.req.Version == 1 {
		gap = "\r\n"
	}
	return fmt.Sprintf("AADSTS%d: %s%sTrace ID: %s%sCorrelation ID: %s%sTimestamp: %s",
		code, entraErrors[code].text, gap, trace, gap, correlation, gap, at)
}

// stamp is the service's time in the form of Entra ID's errors, which is not RFC 3339.
func (x *exchange) stamp() string { return x.s.Now().UTC().Format("2006-01-02 15:04:05Z") }

func (x *exchange) uuid() string {
	a, b := x.rand().Uint64(), x.rand().Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0xfff, b&(1<<48-1))
}
