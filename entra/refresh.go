package entra

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/oauth2"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/transport"
)

// authorizationCode is the grant of a login: defenderctl login (Login) did the interactive part
// and wrote a refresh token, of which access tokens and further refresh tokens are made here.
// release lets go of the file.
func authorizationCode(cfg *conf.Config, request tokenRequest) (g grant, release func(), err error) {
	if len(request.Scopes) > 0 {
		request.Scopes = append(request.Scopes, offlineAccess)
	}
	s, err := openSession(cfg.RefreshTokenFile, cfg.ClientID)
	if err != nil {
		return nil, nil, cannotOpen(cfg.RefreshTokenFile, err)
	}
	var had string // the token that this client got last; it asks again because that one is of no more use
	return func(w *tokenWire, again bool) (*oauth2.Token, error) {
		if again {
			return nil, nil // the file is read at each attempt
		}
		tok, err := s.token(w, request, lease{request.TokenURL, cfg.Resource}, had)
		if err == nil {
			had = tok.AccessToken
		}
		return tok, err
	}, s.leave, nil
}

// cannotOpen says what to do about a login whose file, configured as path, cannot be taken.
func cannotOpen(path string, err error) error {
	remedy := ""
	switch {
	case errors.Is(err, credential.ErrInUse):
		return fmt.Errorf("refresh_token_file: %w, and only one may renew a login: "+
			"stop that one, or log in to another file with `defenderctl login`", err)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		remedy = ": its directory must exist and be writable for Fluent Bit, " +
			"because Entra ID gives a new token at each use"
	}
	if !conf.PathShown(path) {
		remedy += ": " + credential.TakesPath
	}
	return fmt.Errorf("refresh_token_file: %w%s", err, remedy)
}

const (
	lockWait = 5 * time.Second // as long as for a locked state file: the process before may be about to end
	lockPoll = 100 * time.Millisecond
)

// sessions are the logins that this process has open, by the path of their file: stanzas with
// the same file share one.
var sessions = struct {
	mu   sync.Mutex
	open map[string]*session
}{open: make(map[string]*session)}

// session is one refresh_token_file: who refreshes, and what came of it. The file is locked for
// this process as long as anyone uses the session.
type session struct {
	file   credential.RefreshFile
	client string // a refresh token is its client's; it is bound to neither tenant nor resource
	lock   *os.File
	users  int // under sessions.mu: clients, and attempts under way

	busy chan struct{} // one slot; what follows belongs to its holder
	// unsaved is a new refresh token that could not be stored, in place of which replaced stood in the file.
	unsaved, replaced string
	leases            map[lease]*leased
	modeLogged        bool // that others may read the file
}

// lease names an access token: who gives it, and what for.
type lease struct{ tokenURL, resource string }

// leased is an access token that any stanza with the same needs may use.
type leased struct {
	token oauth2.Token
	renew time.Time
	head  http.Header // of the answer that brought it, for the clock
	came  time.Time
}

// openSession joins the session of the file, or begins one. It waits up to 5 s for another process
// to let go of the file.
func openSession(path, client string) (*session, error) {
	file, err := credential.OpenRefreshFile(path)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(lockPoll) {
		s, err := trySession(file, client)
		if !errors.Is(err, credential.ErrInUse) || !time.Now().Before(end) {
			return s, err
		}
	}
}

func trySession(file credential.RefreshFile, client string) (*session, error) {
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	if s := sessions.open[file.Path]; s != nil {
		if s.client != client {
			return nil, fmt.Errorf("%s: another stanza uses it with another client_id; "+
				"a login is for one application: give each its own file", file.Name())
		}
		s.users++
		return s, nil
	}
	lock, err := file.Lock()
	if err != nil {
		return nil, err
	}
	file.Sweep()
	s := &session{
		file: file, client: client, lock: lock, users: 1,
		busy: make(chan struct{}, 1), leases: make(map[lease]*leased),
	}
	sessions.open[file.Path] = s
	return s, nil
}

// hold keeps the session open for one more; false: it was closed already, and the file may be another's by now.
func (s *session) hold() bool {
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	if s.users == 0 {
		return false
	}
	s.users++
	return true
}

// leave lets go of it; the last one unlocks the file.
func (s *session) leave() {
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(sessions.open, s.file.Path)
		s.lock.Close()
	}
}

// token returns an access token of the login: one that another stanza got, unless it is the refused
// one, or a new one. A new refresh token that comes with it is stored before the access token is handed out.
// A crash before that costs nothing, because Entra ID does not revoke a refresh token when it is used
// (Microsoft's page on refresh tokens).
func (s *session) token(w *tokenWire, request tokenRequest, name lease, refused string) (*oauth2.Token, error) {
	if err := s.enter(w); err != nil {
		return nil, err
	}
	defer func() { <-s.busy }()
	// A client that closes meanwhile must not unlock the file under a store.
	if !s.hold() {
		return nil, fmt.Errorf("%s: %w", grants.Name, transport.ErrClosed)
	}
	defer s.leave()

	if err := s.store(w); err != nil {
		return nil, err
	}
	if l := s.leases[name]; l != nil && time.Now().Before(l.renew) && l.token.AccessToken != refused {
		w.head, w.came = l.head, l.came
		tok := l.token
		return &tok, nil
	}
	old, err := s.read(w)
	if err != nil {
		return nil, err
	}
	w.t.net.Mask.Hide(old)
	start := time.Now()
	tok, err := request.token(w, "grant_type", "refresh_token", "refresh_token", old)
	if err != nil {
		return nil, w.failure(err)
	}
	if tok.RefreshToken != old { // x/oauth2 gives the old one where the answer has none
		w.t.net.Mask.Hide(tok.RefreshToken)
		s.unsaved, s.replaced = tok.RefreshToken, old
	}
	life := unknownLife
	if !tok.Expiry.IsZero() {
		life = time.Until(tok.Expiry)
	}
	s.leases[name] = &leased{
		token: oauth2.Token{AccessToken: tok.AccessToken, TokenType: tok.TokenType, Expiry: tok.Expiry},
		renew: renewAt(start, life),
		head:  w.head, came: w.came,
	}
	if err := s.store(w); err != nil {
		return nil, err
	}
	return tok, nil
}

// enter waits for the slot.
func (s *session) enter(w *tokenWire) error {
	select {
	case s.busy <- struct{}{}:
		return nil
	case <-w.ctx.Done():
		return fmt.Errorf("%s: %w", grants.Name, w.ctx.Err())
	case <-w.t.net.Done():
		return fmt.Errorf("%s: %w", grants.Name, transport.ErrClosed)
	}
}

func (s *session) read(w *tokenWire) (string, error) {
	token, err := s.file.Read()
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", credentialError("refresh_token_file", s.file.Given, err,
			"nobody has logged in yet: run `defenderctl login`, as the user that Fluent Bit runs as")
	case err != nil:
		return "", credentialError("refresh_token_file", s.file.Given, err, "make it readable for Fluent Bit, "+
			"or log in again with `defenderctl login`, as the user that Fluent Bit runs as")
	}
	if !s.modeLogged && s.file.ReadByOthers() {
		s.modeLogged = true
		w.t.net.Log.Warn(fmt.Sprintf("refresh_token_file: %s may be read by others than its owner; "+
			"it is the login itself: chmod 600 it", s.file.Path))
	}
	return token, nil
}

// store writes the new refresh token, if one waits. When somebody logged in meanwhile, that login stands.
func (s *session) store(w *tokenWire) error {
	if s.unsaved == "" {
		return nil
	}
	w.t.net.Mask.Hide(s.unsaved)
	if now, err := s.file.Read(); err != nil || now == s.replaced || now == s.unsaved {
		if err := s.file.Write(s.unsaved); err != nil {
			err = fmt.Errorf("cannot store the new refresh token: %w", err)
			return credentialError("refresh_token_file", s.file.Given, err,
				"make room and the file's directory writable for Fluent Bit; the access token is not used before")
		}
	}
	s.unsaved, s.replaced = "", ""
	return nil
}
