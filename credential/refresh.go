package credential

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fluent-bit-defender/conf"
)

const (
	lockSuffix = ".lock"
	tempSuffix = ".tmp"
	staleTemp  = time.Minute // older temporary files were left by a crash
)

// ErrInUse is wrapped by the error of Lock where another process holds the file, as a running Fluent Bit does.
var ErrInUse = errors.New("is in use by another process")

// RefreshFile is a file with one refresh token, replaced whole: whoever reads it, and whenever
// the machine stops, finds the old token or the new one.
type RefreshFile struct {
	Path  string                  // absolute, of the file itself where a link was configured
	Given string                  // the path as configured
	Step  func(done string) error // tests fail or end the process here; nil otherwise
}

// OpenRefreshFile follows links, so that the file itself is replaced and not a link to it.
func OpenRefreshFile(path string) (RefreshFile, error) {
	whole, err := filepath.Abs(path)
	if err != nil {
		return RefreshFile{}, fileError(path, err)
	}
	if real, err := filepath.EvalSymlinks(whole); err == nil {
		return RefreshFile{Path: real, Given: path}, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(whole))
	if err != nil {
		return RefreshFile{}, fileError(path, err)
	}
	return RefreshFile{Path: filepath.Join(dir, filepath.Base(whole)), Given: path}, nil
}

// Name is what errors call the file.
func (f RefreshFile) Name() string {
	if conf.PathShown(f.Given) {
		return f.Path
	}
	return FileName(f.Given)
}

// Read returns the token. Its errors are those of ReadSecret.
func (f RefreshFile) Read() (string, error) { return readSecretOf(f.Path, f.Given) }

// ReadByOthers tells whether others than the owner may read the file.
func (f RefreshFile) ReadByOthers() bool {
	info, err := os.Stat(f.Path)
	return err == nil && info.Mode().Perm()&0o077 != 0
}

// Write replaces the token: a new file beside the old one, on disk, then in its place, then the
// directory on disk. After an error the old token stands, or, from the last step, the new one.
func (f RefreshFile) Write(token string) error {
	if err := f.replace(token); err != nil {
		return fileError(f.Given, err)
	}
	return nil
}

func (f RefreshFile) replace(token string) (err error) {
	if len(token) > MaxSecret-1 || unusableText(token) != "" { // it could not be read
		return errors.New("what was given is no refresh token")
	}
	if err := f.done("begun"); err != nil {
		return err
	}
	dir := filepath.Dir(f.Path)
	temp, err := os.CreateTemp(dir, f.temp()) // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			temp.Close()
			os.Remove(temp.Name())
		}
	}()
	if err := f.done("created"); err != nil {
		return err
	}
	if _, err := temp.WriteString(token + "\n"); err != nil {
		return err
	}
	if err := f.done("written"); err != nil {
		return err
	}
	if err := temp.Sync(); err != nil {
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	f.keepOwner(temp.Name())
	if err := f.done("on disk"); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), f.Path); err != nil {
		return err
	}
	if err := f.done("renamed"); err != nil {
		return err
	}
	return syncDir(dir)
}

func (f RefreshFile) done(step string) error {
	if f.Step == nil {
		return nil
	}
	return f.Step(step)
}

// temp is the pattern of the temporary files.
func (f RefreshFile) temp() string { return "." + filepath.Base(f.Path) + ".*" + tempSuffix }

// keepOwner leaves the file with its owner when root logs in for Fluent Bit.
func (f RefreshFile) keepOwner(temp string) {
	info, err := os.Stat(f.Path)
	if err != nil || os.Geteuid() != 0 {
		return
	}
	if old, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(temp, int(old.Uid), int(old.Gid)) // else it is root's, which the first read will tell
	}
}

// Sweep removes temporary files that a crash left: each holds a refresh token.
func (f RefreshFile) Sweep() {
	found, err := filepath.Glob(filepath.Join(filepath.Dir(f.Path), f.temp()))
	if err != nil {
		return
	}
	for _, name := range found {
		if info, err := os.Lstat(name); err == nil && time.Since(info.ModTime()) > staleTemp {
			_ = os.Remove(name)
		}
	}
}

// syncDir makes a rename last. Filesystems that cannot sync a directory say so; there is nothing more to do there.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err // it names the directory
	}
	return nil
}

// Lock takes a lock that ends with the process, and leaves its id for who is refused.
func (file RefreshFile) Lock() (*os.File, error) {
	path := file.Path + lockSuffix
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fileError(file.Given, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fileError(file.Given, &os.PathError{Op: "lock", Path: path, Err: err})
		}
		holder := ""
		text, _ := io.ReadAll(io.LimitReader(f, 20))
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			holder = fmt.Sprintf(" (%d)", pid)
		}
		return nil, fmt.Errorf("%s %w%s", file.Name(), ErrInUse, holder)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0) // only a hint
	}
	return f, nil
}

// WriteRefreshToken puts the refresh token of a login into refresh_token_file, mode 0600, replacing it
// whole. A plugin that runs finds it at its next attempt; the file's lock is not needed.
func WriteRefreshToken(path string, token conf.Secret) error {
	file, err := OpenRefreshFile(path)
	if err == nil {
		err = file.Write(token.Reveal())
	}
	if err != nil {
		return fmt.Errorf("refresh_token_file: %w", err)
	}
	return nil
}
