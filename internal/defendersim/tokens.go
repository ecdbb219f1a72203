package defendersim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/golang-jwt/jwt/v5"
)

// issuer makes access tokens for the library: JWTs with the claims a reader may want to look at.
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

// Token is called by the library, which dates tokens by the process's clock; here they get the service's.
func (i *issuer) Token(_ context.Context, data *oauth2.GenerateBasic, _ bool) (access, refresh string, err error) {
	i.mu.Lock()
	serial := i.rnd.Uint64()
	i.mu.Unlock()
	i.s.mu.Lock()
	now, life := i.s.now(), i.s.life
	i.s.mu.Unlock()

	t := data.TokenInfo
	t.SetAccessCreateAt(now)
	t.SetAccessExpiresIn(life)
	audience := t.(oauth2.ExtendableTokenInfo).GetExtension().Get("audience")
	tenant := i.s.cfg.Tenant
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"aud": audience, "iss": "https://sts.windows.net/" + tenant + "/", "tid": tenant, "appid": data.Client.GetID(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(life).Unix(), "idtyp": "app", "ver": "1.0", "uti": fmt.Sprintf("%016x", serial),
		"roles": []string{"Alert.Read.All"},
	})
	access, err = token.SignedString(i.key)
	return access, "", err
}

// issued is what the API knows of a token.
type issued struct {
	audience string
	expires  time.Time
	info     oauth2.TokenInfo
}

// tokenStore is the library's token store. The library's own in memory starts goroutines, which testing/synctest bears
// as little as a count of them.
type tokenStore struct {
	mu     sync.Mutex
	access map[string]issued
}

func newTokenStore() *tokenStore { return &tokenStore{access: make(map[string]issued)} }

// most is how many tokens are kept before expired ones are looked for.
const most = 256

// Create keeps a token.
func (st *tokenStore) Create(_ context.Context, t oauth2.TokenInfo) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := t.GetAccessCreateAt()
	if len(st.access) >= most {
		maps.DeleteFunc(st.access, func(_ string, i issued) bool { return !now.Before(i.expires) })
	}
	st.access[t.GetAccess()] = issued{
		audience: t.(oauth2.ExtendableTokenInfo).GetExtension().Get("audience"),
		expires:  now.Add(t.GetAccessExpiresIn()),
		info:     t,
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

// No grant that is offered has codes or refresh tokens.
var errNoSuchToken = errors.New("no grant with codes or refresh tokens is offered")

func (*tokenStore) RemoveByCode(context.Context, string) error    { return errNoSuchToken }
func (*tokenStore) RemoveByRefresh(context.Context, string) error { return errNoSuchToken }
func (*tokenStore) GetByCode(context.Context, string) (oauth2.TokenInfo, error) {
	return nil, errNoSuchToken
}
func (*tokenStore) GetByRefresh(context.Context, string) (oauth2.TokenInfo, error) {
	return nil, errNoSuchToken
}

// RevokeTokens makes every token given so far bad: the next call of the API gets 401.
func (s *Service) RevokeTokens() {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	clear(s.tokens.access)
}

// SetTokenLife changes how long tokens given from now on live.
func (s *Service) SetTokenLife(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life = d
}
