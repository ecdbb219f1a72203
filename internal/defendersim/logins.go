package defendersim

import (
	"context"
	"maps"
	"net/url"
	"time"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/models"
)

const (
	codeLife  = 10 * time.Minute
	loginLife = 90 * 24 * time.Hour // of a refresh token that is not used
)

// authCode is an authorization code. It is remembered when it was used, because a second use is an error of its own.
type authCode struct {
	info models.Token
	made time.Time
	used bool
}

// login is a refresh token.
type login struct {
	info    models.Token
	made    time.Time
	used    bool
	refused int // the AADSTS number it gets; 0: it is good
}

func (st *tokenStore) keepCode(t oauth2.TokenInfo, now time.Time) {
	maps.DeleteFunc(st.codes, func(_ string, c *authCode) bool { return now.Sub(c.made) > 2*codeLife })
	st.codes[t.GetCode()] = &authCode{info: *t.(*models.Token), made: now}
}

func (st *tokenStore) keepLogin(t oauth2.TokenInfo, now time.Time) {
	if len(st.logins) >= most {
		maps.DeleteFunc(st.logins, func(_ string, l *login) bool { return now.Sub(l.made) > 2*loginLife })
	}
	st.logins[t.GetRefresh()] = &login{info: *t.(*models.Token), made: now}
}

// refuseCode checks what the library would call by one name: a code of somebody else, or for another address.
func (x *exchange) refuseCode(form url.Values) int {
	if form.Get("code") == "" || form.Get("redirect_uri") == "" {
		return 900144
	}
	st := x.s.tokens
	st.mu.Lock()
	defer st.mu.Unlock()
	c := st.codes[form.Get("code")]
	switch {
	case c == nil:
		return 9002313
	case c.info.ClientID != x.clientID():
		return 70000
	case c.info.RedirectURI != form.Get("redirect_uri"):
		return 500112
	}
	return 0
}

// GetByCode finds an authorization code.
func (st *tokenStore) GetByCode(_ context.Context, code string) (oauth2.TokenInfo, error) {
	now := st.s.Now()
	st.mu.Lock()
	defer st.mu.Unlock()
	c := st.codes[code]
	switch {
	case c == nil:
		return nil, entraRefusal(9002313)
	case c.used:
		return nil, entraRefusal(54005)
	case now.Sub(c.made) >= codeLife:
		return nil, entraRefusal(70008)
	}
	info := c.info
	return &info, nil
}

// RemoveByCode marks a code as used.
func (st *tokenStore) RemoveByCode(_ context.Context, code string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if c := st.codes[code]; c != nil {
		c.used = true
	}
	return nil
}

// refuseRefresh says why a refresh token of a client is not good; 0: it is. As in Entra ID a token that was used
// stays good until it was not used for 90 days, unless Modes.RefreshOnce holds.
func (st *tokenStore) refuseRefresh(refresh, client string) int {
	now, once := st.s.Now(), st.s.Modes().RefreshOnce
	st.mu.Lock()
	defer st.mu.Unlock()
	l := st.logins[refresh]
	switch {
	case l == nil:
		return 9002313
	case l.info.ClientID != client:
		return 70000
	case l.refused != 0:
		return l.refused
	case now.Sub(l.made) >= loginLife:
		return 700082
	case once && l.used:
		for _, other := range st.logins {
			other.refused = 70008
		}
		return 70008
	}
	l.used = true
	return 0
}

// GetByRefresh finds a refresh token; the library changes what it gets.
func (st *tokenStore) GetByRefresh(_ context.Context, refresh string) (oauth2.TokenInfo, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	l := st.logins[refresh]
	if l == nil {
		return nil, entraRefusal(9002313)
	}
	info := l.info
	return &info, nil
}

// RemoveByRefresh keeps the token: Entra ID does not revoke a refresh token when it is used.
func (st *tokenStore) RemoveByRefresh(context.Context, string) error { return nil }

// RevokeLogins makes every refresh token given so far bad, with an AADSTS number of the table: 50173 for a changed
// password, 700082 and 70008 for logins that ended. Access tokens stay good.
func (s *Service) RevokeLogins(code int) {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	for _, l := range s.tokens.logins {
		l.refused = code
	}
}

// Login makes a refresh token without a page, as a login with the native application would for the audience, and
// makes the application native if it is not.
func (s *Service) Login(clientID, audience string) string {
	s.SetNative(clientID, true)
	refresh := "0." + s.issuer.opaque(24)
	t := models.NewToken()
	t.ClientID, t.UserID, t.Refresh = clientID, s.cfg.User, refresh
	t.Extension = url.Values{"audience": {audience}, "offline": {"1"}}
	now := s.Now()
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	s.tokens.keepLogin(t, now)
	return refresh
}
