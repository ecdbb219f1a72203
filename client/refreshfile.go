package client

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"fluent-bit-defender/conf"
)

const (
	tempSuffix = ".tmp"
	staleTemp  = time.Minute // older temporary files were left by a crash
)

// refreshFile is a file with one refresh token, replaced whole: whoever reads it, and whenever
// the machine stops, finds the old token or the new one.
type refreshFile struct {
	path  string
	given string                  // the path as configured
	step  func(done string) error // tests fail or end the process here; nil otherwise
}

// newRefreshFile follows links, so that the file itself is replaced and not a link to it.
func newRefreshFile(path string) (refreshFile, error) {
	whole, err := filepath.Abs(path)
	if err != nil {
		return refreshFile{}, fileError(path, err)
	}
	if real, err := filepath.EvalSymlinks(whole); err == nil {
		return refreshFile{path: real, given: path}, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(whole))
	if err != nil {
		return refreshFile{}, fileError(path, err)
	}
	return refreshFile{path: filepath.Join(dir, filepath.Base(whole)), given: path}, nil
}

// name is what errors call the file.
func (f refreshFile) name() string {
	if conf.PathShown(f.given) {
		return f.path
	}
	return fileName(f.given)
}

func (f refreshFile) read() (string, error) { return readSecretOf(f.path, f.given) }

// open tells whether others than the owner may read the file.
func (f refreshFile) open() bool {
	info, err := os.Stat(f.path)
	return err == nil && info.Mode().Perm()&0o077 != 0
}

// write replaces the token: a new file beside the old one, on disk, then in its place, then the
// directory on disk. After an error the old token stands, or, from the last step, the new one.
func (f refreshFile) write(token string) error {
	if err := f.replace(token); err != nil {
		return fileError(f.given, err)
	}
	return nil
}

func (f refreshFile) replace(token string) (err error) {
	if len(token) > maxSecretFile-1 || unusableText(token) != "" { // it could not be read
		return errors.New("what was given is no refresh token")
	}
	if err := f.done("begun"); err != nil {
		return err
	}
	dir := filepath.Dir(f.path)
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
	if err := os.Rename(temp.Name(), f.path); err != nil {
		return err
	}
	if err := f.done("renamed"); err != nil {
		return err
	}
	return syncDir(dir)
}

func (f refreshFile) done(step string) error {
	if f.step == nil {
		return nil
	}
	return f.step(step)
}

// temp is the pattern of the temporary files.
func (f refreshFile) temp() string { return "." + filepath.Base(f.path) + ".*" + tempSuffix }

// keepOwner leaves the file with its owner when root logs in for Fluent Bit.
func (f refreshFile) keepOwner(temp string) {
	info, err := os.Stat(f.path)
	if err != nil || os.Geteuid() != 0 {
		return
	}
	if old, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(temp, int(old.Uid), int(old.Gid)) // else it is root's, which the first read will tell
	}
}

// sweep removes temporary files that a crash left: each holds a refresh token.
func (f refreshFile) sweep() {
	found, err := filepath.Glob(filepath.Join(filepath.Dir(f.path), f.temp()))
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
