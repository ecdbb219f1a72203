package entra

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fluent-bit-defender/conf"
	"fluent-bit-defender/credential"
	"fluent-bit-defender/internal/defendersim"
	"fluent-bit-defender/internal/simtest"
	"fluent-bit-defender/transport"
)

// asChild makes the test binary another process that uses a refresh token file.
const asChild = "CLIENT_TEST_AS_CHILD"

// childOrder is what a child does: it holds the file until its input ends, or dies at a step of storing a token.
type childOrder struct {
	Cfg  *conf.Config
	Dies string
}

func child() {
	var order childOrder
	if err := json.Unmarshal([]byte(os.Getenv(asChild)), &order); err != nil {
		panic(err)
	}
	c, err := open(order.Cfg, nil, discard)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	if order.Dies != "" {
		for _, s := range sessions.open {
			s.file.Step = func(step string) error {
				if step == order.Dies {
					syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {}
				}
				return nil
			}
		}
		_, err := fetch(c)
		fmt.Println("survived", err)
		return
	}
	fmt.Println("holds")
	io.Copy(io.Discard, os.Stdin)
}

// startChild starts one and returns its first line, its input, and a wait for its end.
func startChild(t *testing.T, order childOrder) (line string, cmd *exec.Cmd, end func() error) {
	t.Helper()
	text, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), asChild+"="+string(text))
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	line, _ = bufio.NewReader(out).ReadString('\n')
	return line, cmd, func() error { in.Close(); return cmd.Wait() }
}

// stored is the token in the file.
func stored(w *simtest.World) string {
	w.Helper()
	return strings.TrimSuffix(w.Read(w.Cfg.RefreshTokenFile), "\n")
}

func TestANewRefreshTokenIsStoredBeforeTheAccessTokenIsUsed(t *testing.T) {
	simtest.Versions(t, conf.AuthorizationCode, func(w *simtest.World) {
		w.Svc.SetModes(func(m *defendersim.Modes) { m.RefreshOnce = true })
		first := stored(w)
		var atTheAPI []string
		w.Wire.Meanwhile(func(req *http.Request, _ url.Values) (*http.Response, error) {
			if req.Header.Get("Authorization") != "" {
				atTheAPI = append(atTheAPI, stored(w))
			}
			return nil, nil
		})
		c := clientOf(w)
		good(w, c, "a token")
		second := stored(w)
		anew(c)
		good(w, c, "a second one")
		third := stored(w)
		if first == second || second == third || len(atTheAPI) != 2 || atTheAPI[0] != second || atTheAPI[1] != third {
			w.Error("the API was asked before the new token stood in the file")
		}
		if got := w.Wire.Sent()[1].Get("refresh_token"); got != second {
			w.Error("the second renewal did not use the stored token")
		}
		info, err := os.Stat(w.Cfg.RefreshTokenFile)
		if err != nil || info.Mode().Perm() != 0o600 {
			w.Errorf("mode %v, %v; want 0600", info.Mode(), err)
		}
	})
}

func TestAnAnswerWithoutARefreshTokenKeepsTheOld(t *testing.T) {
	simtest.Versions(t, conf.AuthorizationCode, func(w *simtest.World) {
		w.Svc.SetModes(func(m *defendersim.Modes) { m.KeepRefresh = true })
		first := stored(w)
		before, _ := os.Stat(w.Cfg.RefreshTokenFile)
		c := clientOf(w)
		good(w, c, "a token")
		if err := renewal(c); err != nil {
			w.Fatal(err)
		}
		after, _ := os.Stat(w.Cfg.RefreshTokenFile)
		if stored(w) != first || !os.SameFile(before, after) {
			w.Error("the file was replaced")
		}
	})
}

// steps are the points of storing a token at which a process can end.
var steps = []string{"begun", "created", "written", "on disk", "renamed"}

func TestACrashAtAnyPointOfStoringLosesNoLogin(t *testing.T) {
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			w := simtest.OverTLS(t, conf.AuthorizationCode, false)
			first := stored(w)
			line, _, end := startChild(t, childOrder{w.Cfg, step})
			var exit *exec.ExitError
			if err := end(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the child ended with %v: %s", err, line)
			}
			if now := stored(w); (now == first) != (step != "renamed") || now == "" {
				t.Errorf("the file holds the first token: %v", now == first)
			}
			good(w, clientOf(w), "after the crash")
		})
	}
}

func TestWhatACrashLeftIsSwept(t *testing.T) {
	w := simtest.Stanza(t, conf.AuthorizationCode, false)
	old, young := w.Write(".refresh.123.tmp", "secret"), w.Write(".refresh.456.tmp", "secret")
	others := w.Write(".refreshing.1.tmp", "secret")
	for _, path := range []string{old, others} {
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-2*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	good(w, clientOf(w), "a token")
	left, _ := filepath.Glob(w.Dir + "/.*")
	if want := []string{young, others}; fmt.Sprint(left) != fmt.Sprint(want) {
		t.Errorf("left are %v, want %v", left, want)
	}
}

func TestATokenThatCannotBeStoredIsNotUsed(t *testing.T) {
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			simtest.Versions(t, conf.AuthorizationCode, func(w *simtest.World) {
				w.Svc.SetModes(func(m *defendersim.Modes) { m.RefreshOnce = true })
				c := clientOf(w)
				full := true
				for _, s := range sessions.open {
					s.file.Step = func(done string) error {
						if full && done == step {
							return syscall.ENOSPC
						}
						return nil
					}
				}
				for range 2 {
					e := bad(w, c, "the disk is full")
					want := "token request: refresh_token_file: cannot store the new refresh token: " +
						"no space left on device; make room and the file's directory writable for Fluent Bit; " +
						"the access token is not used before"
					if e.Kind != transport.KindToken || e.Error() != want {
						w.Errorf("%v\n got %v\nwant %s", e.Kind, e, want)
					}
				}
				if st := w.Svc.Stats(); st.Alerts != 0 || st.Issued != 1 {
					w.Errorf("%d requests to the API, %d tokens: want none, and one", st.Alerts, st.Issued)
				}
				if left, _ := filepath.Glob(w.Dir + "/.refresh*"); len(left) > 0 {
					w.Errorf("temporary files are left: %v", left)
				}
				full = false
				good(w, c, "there is room again")
				if issued := w.Svc.Stats().Issued; issued != 1 {
					w.Errorf("%d tokens: the one that waited was not used", issued)
				}
				if err := renewal(c); err != nil {
					w.Errorf("the stored token is not the newest: %v", err)
				}
			})
		})
	}
}

func TestALoginWhileATokenWaitsToBeStoredStands(t *testing.T) {
	simtest.Versions(t, conf.AuthorizationCode, func(w *simtest.World) {
		c := clientOf(w)
		full := true
		for _, s := range sessions.open {
			s.file.Step = func(string) error {
				if full {
					return syscall.ENOSPC
				}
				return nil
			}
		}
		bad(w, c, "the disk is full")
		full = false
		login := w.Svc.Login(simtest.LoginID, defendersim.DefaultResource)
		if err := credential.WriteRefreshToken(w.Cfg.RefreshTokenFile, conf.Secret(login)); err != nil {
			w.Fatal(err)
		}
		good(w, c, "a token")
		if stored(w) != login {
			w.Error("the new login was overwritten by a token of the old one")
		}
	})
}

func TestALoginDuringARenewalStands(t *testing.T) {
	simtest.Versions(t, conf.AuthorizationCode, func(w *simtest.World) {
		login := w.Svc.Login(simtest.LoginID, defendersim.DefaultResource)
		w.Wire.Meanwhile(func(*http.Request, url.Values) (*http.Response, error) {
			w.Wire.Meanwhile(nil)
			return nil, credential.WriteRefreshToken(w.Cfg.RefreshTokenFile, conf.Secret(login))
		})
		c := clientOf(w)
		good(w, c, "a token of the login before")
		if stored(w) != login {
			w.Error("the new login was overwritten by a token of the old one")
		}
		if err := renewal(c); err != nil || w.Wire.Sent()[1].Get("refresh_token") != login {
			w.Errorf("the new login is not used: %v", err)
		}
	})
}

func TestARevokedLoginNamesTheCommandAndHeals(t *testing.T) {
	for code, what := range map[int]string{
		50173:  "AADSTS50173: the login was revoked, for example by a changed password",
		700082: "AADSTS700082: the login has expired because it was not used for too long",
		70008:  "AADSTS70008: the login has expired",
		70000:  "AADSTS70000: the login is not accepted any more (invalid_grant)",
	} {
		simtest.Versions(t, conf.AuthorizationCode, func(w *simtest.World) {
			c := clientOf(w)
			good(w, c, "a token")
			w.Svc.RevokeLogins(code)
			good(w, c, "the held token serves")
			e := token(w, c)
			want := "token request: " + what + "; log in again with `defenderctl login`; " +
				"no restart is needed; the service says "
			if e.Kind != transport.KindToken || e.Code != code || !strings.HasPrefix(e.Error(), want) ||
				strings.Contains(e.Error(), "\n") {
				w.Errorf("%v\n got %v\nwant %s...", e.Kind, e, want)
			}
			login := conf.Secret(w.Svc.Login(simtest.LoginID, defendersim.DefaultResource))
			if err := credential.WriteRefreshToken(w.Cfg.RefreshTokenFile, login); err != nil {
				w.Fatal(err)
			}
			good(w, c, "after the login, without a restart")
		})
	}
}

func TestStanzasShareALogin(t *testing.T) {
	simtest.Versions(t, conf.AuthorizationCode, func(w *simtest.World) {
		w.Svc.SetModes(func(m *defendersim.Modes) { m.RefreshOnce = true })
		one, two := clientOf(w), clientOf(w)
		var both sync.WaitGroup
		for _, c := range []*asker{one, two} {
			both.Go(func() {
				if _, err := fetch(c); err != nil {
					w.Error(err)
				}
			})
		}
		both.Wait()
		if issued := w.Svc.Stats().Issued; issued != 1 {
			w.Errorf("%d tokens for two stanzas, want one", issued)
		}
		if now, ok := two.net.Clock.Now(time.Now()); !ok || now.Sub(w.Svc.Now()).Abs() > time.Second {
			w.Errorf("the second stanza's clock says %v, %v", now, ok)
		}
		w.Svc.RevokeTokens()
		good(w, one, "after a refused token")
		good(w, two, "after a refused token")
		if issued := w.Svc.Stats().Issued; issued != 2 {
			w.Errorf("%d tokens, want one more", issued)
		}
		for range 24 {
			time.Sleep(5 * time.Minute)
			good(w, one, "later")
			good(w, two, "later")
		}
		if issued := w.Svc.Stats().Issued; issued < 4 || issued > 7 {
			w.Errorf("%d tokens in two hours", issued)
		}
		w.Cfg.Resource = defendersim.PortalResource
		good(w, clientOf(w), "another resource, the same login")

		w.Cfg.ClientID = "another"
		_, err := open(w.Cfg, w.RoundTripper(), w.Logged.Logger())
		want := "refresh_token_file: " + w.Cfg.RefreshTokenFile + ": another stanza uses it with another client_id; " +
			"a login is for one application: give each its own file"
		if err == nil || err.Error() != want {
			w.Errorf("\n got %v\nwant %s", err, want)
		}
	})
}

func TestAnotherProcessIsRefused(t *testing.T) {
	w := simtest.OverTLS(t, conf.AuthorizationCode, false)
	line, cmd, end := startChild(t, childOrder{Cfg: w.Cfg})
	if line != "holds\n" {
		t.Fatalf("the child says %q", line)
	}
	synctest.Test(t, func(t *testing.T) { // the 5 s are the bubble's
		start := time.Now()
		_, err := open(w.Cfg, nil, discard)
		want := fmt.Sprintf("refresh_token_file: %s is in use by another process (%d), "+
			"and only one may renew a login: stop that one, "+
			"or log in to another file with `defenderctl login`", w.Cfg.RefreshTokenFile, cmd.Process.Pid)
		if err == nil || err.Error() != want {
			t.Errorf("\n got %v\nwant %s", err, want)
		}
		if time.Since(start) < lockWait {
			t.Errorf("refused after %v", time.Since(start))
		}
	})
	login := w.Svc.Login(simtest.LoginID, defendersim.DefaultResource)
	err := credential.WriteRefreshToken(w.Cfg.RefreshTokenFile, conf.Secret(login))
	if err != nil || stored(w) != login {
		t.Errorf("a login while the file is in use: %v", err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	good(w, clientOf(w), "when the other process has ended")
}

func TestTheFileIsFreeWhenTheLastClientCloses(t *testing.T) {
	w := simtest.Stanza(t, conf.AuthorizationCode, false)
	one, two := clientOf(w), clientOf(w)
	good(w, one, "a token")
	free := func() bool {
		f, err := (credential.RefreshFile{Path: w.Cfg.RefreshTokenFile}).Lock()
		if err == nil {
			f.Close()
		}
		return err == nil
	}
	one.Close()
	one.Close()
	if free() {
		t.Error("free while a stanza uses it")
	}
	two.Close()
	if !free() || len(sessions.open) != 0 {
		t.Error("held by nobody")
	}
	good(w, clientOf(w), "opened again")
}

// A client that closes while its answer is on the way keeps the file until the new token is stored.
func TestClosingDuringAStoreKeepsTheLock(t *testing.T) {
	w := simtest.Stanza(t, conf.AuthorizationCode, false)
	c := clientOf(w)
	first := stored(w)
	for _, s := range sessions.open {
		s.file.Step = func(done string) error {
			if done == "created" {
				c.Close()
				file := credential.RefreshFile{Path: w.Cfg.RefreshTokenFile}
				if _, err := file.Lock(); !errors.Is(err, credential.ErrInUse) {
					t.Errorf("unlocked under a store: %v", err)
				}
			}
			return nil
		}
	}
	_, err := c.Get(context.Background())
	if stored(w) == first {
		t.Errorf("the token that came was not stored: %v", err)
	}
	if len(sessions.open) != 0 {
		t.Error("the file is still held")
	}
}

// An attempt that begins after the last client closed touches nothing: the file may be another's by now.
func TestAClosedSessionTouchesNothing(t *testing.T) {
	w := simtest.Stanza(t, conf.AuthorizationCode, false)
	one := clientOf(w)
	old := sessions.open[w.Cfg.RefreshTokenFile]
	old.unsaved, old.replaced = "a token that waits to be stored", stored(w)
	one.Close()
	two := clientOf(w)
	first := stored(w)
	request, err := newTokenRequest(w.Cfg)
	if err != nil {
		t.Fatal(err)
	}
	wire := &tokenWire{t: two.Tokens, ctx: context.Background()}
	if _, err := old.token(wire, request, lease{}, ""); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if stored(w) != first || len(sessions.open) != 1 {
		t.Error("the file or its new session was touched")
	}
}

func TestRefreshFilesThatCannotBeUsed(t *testing.T) {
	w := simtest.Stanza(t, conf.AuthorizationCode, false)
	path := w.Cfg.RefreshTokenFile
	f := func(name, want string) {
		t.Helper()
		c, err := open(w.Cfg, w.RoundTripper(), w.Logged.Logger())
		if err == nil {
			err = renewal(c)
			c.Close()
		}
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, want)
		}
	}
	os.Remove(path)
	f("nobody logged in", "token request: refresh_token_file: open "+path+": no such file or directory; "+
		"nobody has logged in yet: run `defenderctl login`, as the user that Fluent Bit runs as")
	const mend = "; make it readable for Fluent Bit, " +
		"or log in again with `defenderctl login`, as the user that Fluent Bit runs as"
	w.Write("refresh", "")
	f("empty", "token request: refresh_token_file: "+path+" is empty"+mend)
	w.Write("refresh", "one\ntwo\n")
	f("two lines", "token request: refresh_token_file: "+path+" holds more than one line"+mend)
	w.Cfg.RefreshTokenFile = filepath.Join(w.Dir, "no", "refresh")
	f("no directory", "refresh_token_file: lstat "+w.Dir+"/no: no such file or directory: "+
		"its directory must exist and be writable for Fluent Bit, because Entra ID gives a new token at each use")
	if err := credential.WriteRefreshToken(w.Cfg.RefreshTokenFile, "x"); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("written into no directory: %v", err)
	}
	for _, token := range []conf.Secret{
		"", " ", "a\nb", "a\x00b", "a ", "\ufeffa", conf.Secret(strings.Repeat("a", credential.MaxSecret)),
	} {
		err, text := credential.WriteRefreshToken(path, token), token.Reveal()
		if err == nil || strings.Contains(err.Error(), text) && strings.TrimSpace(text) != "" {
			t.Errorf("%q: %v", token.Reveal(), err)
		}
	}
}

func TestALinkIsFollowed(t *testing.T) {
	w := simtest.Stanza(t, conf.AuthorizationCode, false)
	real := w.Cfg.RefreshTokenFile
	w.Cfg.RefreshTokenFile = filepath.Join(w.Dir, "link")
	if err := os.Symlink(real, w.Cfg.RefreshTokenFile); err != nil {
		t.Fatal(err)
	}
	first := w.Read(real)
	good(w, clientOf(w), "a token")
	info, err := os.Lstat(w.Cfg.RefreshTokenFile)
	if err != nil || info.Mode()&os.ModeSymlink == 0 || w.Read(real) == first {
		t.Errorf("the link was replaced in place of the file: %v %v", info.Mode(), err)
	}
}

func TestAnOpenFileIsWarnedOfOnce(t *testing.T) {
	w := simtest.Stanza(t, conf.AuthorizationCode, false)
	w.Svc.SetModes(func(m *defendersim.Modes) { m.KeepRefresh = true })
	if err := os.Chmod(w.Cfg.RefreshTokenFile, 0o644); err != nil {
		t.Fatal(err)
	}
	c := clientOf(w)
	good(w, c, "a token")
	if err := renewal(c); err != nil {
		t.Fatal(err)
	}
	line := "refresh_token_file: " + w.Cfg.RefreshTokenFile + " may be read by others than its owner; " +
		"it is the login itself: chmod 600 it"
	if n := strings.Count(w.Logged.String(), line); n != 1 {
		t.Errorf("%d warnings: %s", n, w.Logged)
	}
}

func TestManyStanzasRenewOneLoginAtATime(t *testing.T) {
	simtest.Versions(t, conf.AuthorizationCode, func(w *simtest.World) {
		w.Svc.SetModes(func(m *defendersim.Modes) { m.RefreshOnce = true })
		w.Svc.SetTokenLife(20 * time.Second)
		var all sync.WaitGroup
		for range 5 {
			c := clientOf(w)
			all.Go(func() {
				for range 60 {
					if _, err := fetch(c); err != nil {
						w.Error(err)
						return
					}
					time.Sleep(3 * time.Second)
				}
			})
		}
		all.Wait()
	})
}
