package defendersim

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/golang-jwt/jwt/v5"
)

// issuer makes tokens for the library: access tokens are JWTs with the claims a reader may want to look at.
type issuer struct {
	s   *Service
	key []byte

	mu  sync.Mutex
	rnd *rand.Rand
}

func newIssuer(s *Service) *issuer {
	i := &issuer{s: s, rnd: rand.New(rand.NewPCG(s.cfg.Seed, 1<<63))} // no request has this number
	for range 4 {
		i.key = binary.LittleEndian.AppendUint64(i.key, i.rnd.Uint64())
	}
	return i
}

// opaque is random text of n times 11 characters, for codes and refresh tokens.
func (i *issuer) opaque(n int) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	var raw []byte
	for range n {
		raw = binary.LittleEndian.AppendUint64(raw, i.rnd.Uint64())
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// Token is called by the library, which dates tokens by the process's clock; here they get the service's.
func (i *issuer) Token(
	_ context.Context, data *oauth2.GenerateBasic, withRefresh bool,
) (access, refresh string, err error) {
	i.mu.Lock()
	serial := i.rnd.Uint64()
	i.mu.Unlock()
	i.s.mu.Lock()
	now, life, keep := i.s.now(), i.s.life, i.s.modes.KeepRefresh
	i.s.mu.Unlock()

	t := data.TokenInfo.(oauth2.ExtendableTokenInfo)
	t.SetAccessCreateAt(now)
	t.SetAccessExpiresIn(life)
	form := data.Request.Form
	ext := extend(t, form)
	ext.Del("grants") // of the token that is renewed
	tenant := i.s.cfg.Tenant
	claims := jwt.MapClaims{
		"aud": ext.Get("audience"), "iss": "https://sts.windows.net/" + tenant + "/", "tid": tenant,
		"appid": data.Client.GetID(), "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(life).Unix(),
		"ver": "1.0", "uti": fmt.Sprintf("%016x", serial),
	}
	if data.UserID == "" {
		claims["idtyp"] = "app"
		a := data.Client.(*app)
		roles := a.roles
		if i.s.isGraph(ext.Get("audience")) {
			roles = a.graphRoles
		}
		if len(roles) > 0 {
			claims["roles"] = roles
			ext.Set("grants", strings.Join(roles, " "))
		}
	} else {
		claims["idtyp"], claims["upn"] = "user", data.UserID
		scopes := i.s.cfg.Scopes
		if i.s.isGraph(ext.Get("audience")) {
			scopes = i.s.cfg.GraphScopes
		}
		if len(scopes) > 0 {
			claims["scp"] = strings.Join(scopes, " ")
			ext.Set("grants", strings.Join(scopes, " "))
			ext.Set("scp", strings.Join(scopes, " "))
		}
		renews := form.Get("grant_type") == "refresh_token"
		if withRefresh && ext.Get("offline") != "" && !(keep && renews) {
			refresh = "0." + i.opaque(24)
		}
	}
	access, err = jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(i.key)
	return access, refresh, err
}

// extend gives t an extension of its own (the library shares a code's with its token) that holds what the form asks
// for.
func extend(t oauth2.ExtendableTokenInfo, form url.Values) url.Values {
	ext := url.Values{}
	maps.Copy(ext, t.GetExtension())
	if a := audienceOf(form); a != "" {
		ext.Set("audience", a)
	}
	t.SetExtension(ext)
	return ext
}

// codes makes authorization codes for the library.
type codes struct{ *issuer }

// Token is called by the library.
func (c codes) Token(_ context.Context, data *oauth2.GenerateBasic) (string, error) {
	form := data.Request.Form
	ext := extend(data.TokenInfo.(oauth2.ExtendableTokenInfo), form)
	// v2 gives a refresh token only to who asks for it.
	if _, v2 := form["scope"]; !v2 || slices.Contains(strings.Fields(form.Get("scope")), "offline_access") {
		ext.Set("offline", "1")
	}
	return "0." + c.opaque(12), nil
}

// issued is what the API knows of a token.
type issued struct {
	audience string
	allowed  bool     // it carries a role or a scope
	grants   []string // those
	expires  time.Time
	info     oauth2.TokenInfo
}

// tokenStore is the library's token store. The library's own in memory starts goroutines, which testing/synctest bears
// as little as a count of them.
type tokenStore struct {
	s  *Service
	mu sync.Mutex

	access map[string]issued
	codes  map[string]*authCode
	logins map[string]*login // by refresh token
}

func newTokenStore(s *Service) *tokenStore {
	return &tokenStore{
		s: s, access: make(map[string]issued), codes: make(map[string]*authCode), logins: make(map[string]*login),
	}
}

// most is how many tokens are kept before expired ones are looked for.
const most = 256

// Create keeps a code, or a token with its refresh token.
func (st *tokenStore) Create(_ context.Context, t oauth2.TokenInfo) error {
	now := st.s.Now()
	st.mu.Lock()
	defer st.mu.Unlock()
	if t.GetCode() != "" {
		st.keepCode(t, now)
		return nil
	}
	if len(st.access) >= most {
		maps.DeleteFunc(st.access, func(_ string, i issued) bool { return !now.Before(i.expires) })
	}
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(t.GetAccess(), claims); err != nil {
		return err
	}
	st.access[t.GetAccess()] = issued{
		audience: t.(oauth2.ExtendableTokenInfo).GetExtension().Get("audience"),
		allowed:  claims["roles"] != nil || claims["scp"] != nil,
		grants:   strings.Fields(t.(oauth2.ExtendableTokenInfo).GetExtension().Get("grants")),
		expires:  t.GetAccessCreateAt().Add(t.GetAccessExpiresIn()),
		info:     t,
	}
	if t.GetRefresh() != "" {
		st.keepLogin(t, now)
	}
	return nil
}

func (st *tokenStore) byAccess(access string) (issued, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	i, ok := st.access[access]
	return i, ok
}

// GetByAccess finds a token.
func (st *tokenStore) GetByAccess(_ context.Context, access string) (oauth2.TokenInfo, error) {
	i, _ := st.byAccess(access)
	return i.info, nil
}

// RemoveByAccess forgets a token.
func (st *tokenStore) RemoveByAccess(_ context.Context, access string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	delete(st.access, access)
	return nil
}

// RevokeTokens makes every access token given so far bad: the next call of the API gets 401.
func (s *Service) RevokeTokens() {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	clear(s.tokens.access)
}

// SetTokenLife changes how long access tokens given from now on live.
func (s *Service) SetTokenLife(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = d
}
