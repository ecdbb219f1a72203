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
	"sync"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/errors"
	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/server"
)

// newOAuth sets the OAuth 2.0 library up: it does the grant (client, secret, grant type, token), this package gives it a
// clock, a store without goroutines, and Entra ID's words.
func (s *Service) newOAuth() *server.Server {
	m := manage.NewManager()
	m.MapClientStorage(s.apps)
	m.MapTokenStorage(s.tokens)
	m.MapAccessGenerate(newIssuer(s))
	m.SetExtractExtensionHandler(func(r *oauth2.TokenGenerateRequest, t oauth2.ExtendableTokenInfo) {
		t.SetExtension(url.Values{"audience": {audienceOf(r.Request)}})
	})
	cfg := server.NewConfig()
	cfg.AllowedGrantTypes = []oauth2.GrantType{oauth2.ClientCredentials}
	srv := server.NewServer(cfg, m)
	srv.SetClientInfoHandler(func(r *http.Request) (string, string, error) {
		if id, secret, ok := r.BasicAuth(); ok { // both percent-encoded, by RFC 6749
			id, err1 := url.QueryUnescape(id)
			secret, err2 := url.QueryUnescape(secret)
			if err1 == nil && err2 == nil {
				return id, secret, nil
			}
		}
		return r.PostForm.Get("client_id"), r.PostForm.Get("client_secret"), nil
	})
	srv.SetInternalErrorHandler(func(err error) *errors.Response {
		if e, ok := err.(entraRefusal); ok {
			return &errors.Response{Error: err, ErrorCode: int(e)}
		}
		return nil
	})
	srv.SetResponseErrorHandler(func(r *errors.Response) {
		if r.ErrorCode == 0 {
			switch r.Error {
			case errors.ErrInvalidClient:
				r.ErrorCode = 7000215
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
		x := w.(tokenWriter).x
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

// tokenWriter leads the library's answers back to the exchange.
type tokenWriter struct {
	http.ResponseWriter
	x *exchange
}

// serveToken checks what is Entra ID's own (tenant, form, v1 against v2, resource) and leaves the rest to the library.
func (x *exchange) serveToken() {
	r := x.r
	if x.req.badness != nil {
		x.entraError(900144, 0)
		return
	}
	if code := x.refuseToken(r.PostForm); code != 0 {
		x.entraError(code, 0)
		return
	}
	// The library looks into the URL too; Entra ID does not.
	r.Form = r.PostForm
	if err := x.s.oauth.HandleTokenRequest(tokenWriter{x.w, x}, r); err != nil {
		panic(fmt.Sprintf("defendersim: token answer: %v", err))
	}
}

func (x *exchange) refuseToken(form url.Values) int {
	_, _, basic := x.r.BasicAuth()
	has := func(name string) bool { return form.Get(name) != "" }
	switch {
	case x.r.Method != http.MethodPost:
		return 900561
	case !strings.EqualFold(x.req.tenant, x.s.cfg.Tenant):
		return 90002
	case !has("grant_type"), !has("client_id") && !basic:
		return 900144
	case form.Get("grant_type") != "client_credentials":
		return 70003
	case x.req.Version == 2 && has("resource"):
		return 901002
	case x.req.Version == 1 && !has("resource"), x.req.Version == 2 && !has("scope"):
		return 900144
	case !has("client_secret") && !basic:
		return 7000218
	case x.req.Version == 2 && !strings.HasSuffix(form.Get("scope"), "/.default"):
		return 1002012
	}
	if a := audienceOf(x.r); !slices.Contains(x.s.cfg.Audiences, a) && !slices.Contains(x.s.cfg.Resources, a) {
		return 500011
	}
	return 0
}

// audienceOf is the resource a token request asks for.
func audienceOf(r *http.Request) string {
	if resource := r.PostForm.Get("resource"); resource != "" {
		return resource
	}
	return strings.TrimSuffix(r.PostForm.Get("scope"), "/.default")
}

// token answers with a token: v1 with the keys, the order and the strings of the seed's example, v2 with numbers.
func (x *exchange) token(t *models.Token) {
	x.s.mu.Lock()
	x.s.stats.Issued++
	x.s.mu.Unlock()
	x.w.Header().Set("Cache-Control", "no-store, no-cache")
	x.w.Header().Set("Pragma", "no-cache")
	life := int64(t.AccessExpiresIn.Seconds())
	if x.req.Version == 2 {
		x.json(http.StatusOK, struct {
			TokenType    string `json:"token_type"`
			ExpiresIn    int64  `json:"expires_in"`
			ExtExpiresIn int64  `json:"ext_expires_in"`
			AccessToken  string `json:"access_token"`
		}{"Bearer", life, life, t.Access})
		return
	}
	unix := func(n int64) string { return strconv.FormatInt(n, 10) }
	x.json(http.StatusOK, struct {
		TokenType    string `json:"token_type"`
		ExpiresIn    string `json:"expires_in"`
		ExtExpiresIn string `json:"ext_expires_in"`
		ExpiresOn    string `json:"expires_on"`
		NotBefore    string `json:"not_before"`
		Resource     string `json:"resource"`
		AccessToken  string `json:"access_token"`
	}{
		"Bearer", unix(life), "0", unix(t.AccessCreateAt.Unix() + life), unix(t.AccessCreateAt.Unix()),
		t.Extension.Get("audience"), t.Access,
	})
}

// appStore holds the tenant's applications. It is the library's client store.
type appStore struct {
	mu      sync.Mutex
	secrets map[string][]string
}

// app is an application with all its secrets, any of which is good.
type app struct {
	models.Client
	secrets []string
}

func (a *app) VerifyPassword(secret string) bool { return slices.Contains(a.secrets, secret) }

// GetByID finds an application.
func (st *appStore) GetByID(_ context.Context, id string) (oauth2.ClientInfo, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	secrets, ok := st.secrets[id]
	if !ok {
		return nil, entraRefusal(700016)
	}
	return &app{models.Client{ID: id}, slices.Clone(secrets)}, nil
}

// SetSecrets gives an application its secrets, all of which are good, and makes it if it is new. Without secrets the
// application is removed. Tokens already given stay good.
func (s *Service) SetSecrets(clientID string, secrets ...string) {
	s.apps.mu.Lock()
	defer s.apps.mu.Unlock()
	if len(secrets) == 0 {
		delete(s.apps.secrets, clientID)
		return
	}
	s.apps.secrets[clientID] = slices.Clone(secrets)
}

// entraError answers with an error of Entra ID; status 0: the error's own.
func (x *exchange) entraError(code, status int) {
	e := entraErrors[code]
	if status == 0 {
		status = e.status
	}
	trace, correlation := x.uuid(), x.uuid()
	at := x.s.Now().UTC().Format("2006-01-02 15:04:05Z") // not RFC 3339
	gap := " "
	if x.req.Version == 1 {
		gap = "\r\n"
	}
	text := fmt.Sprintf("AADSTS%d: %s%sTrace ID: %s%sCorrelation ID: %s%sTimestamp: %s",
		code, e.text, gap, trace, gap, correlation, gap, at)
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

func (x *exchange) uuid() string {
	a, b := x.rand().Uint64(), x.rand().Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0xfff, b&(1<<48-1))
}
