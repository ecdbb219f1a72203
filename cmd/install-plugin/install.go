package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// mode lets the user that Fluent Bit runs as read the plugin, whoever copied it. Loading it needs no right to execute.
const mode fs.FileMode = 0o644

// install copies the file source to target and returns its size. Whoever opens target meanwhile, or after a crash,
// finds the old file or the new one whole: the copy is made under another name beside it, synced and renamed. A
// Fluent Bit that has the old file loaded keeps it. What failed leaves nothing behind.
func install(source, target string) (size int64, err error) {
	from, err := os.Open(source)
	if err != nil {
		return 0, fmt.Errorf("the plugin must lie beside install-plugin: %w", err)
	}
	defer from.Close()
	if info, err := from.Stat(); err != nil {
		return 0, err
	} else if !info.Mode().IsRegular() || info.Size() == 0 {
		return 0, fmt.Errorf("%s is no file with a plugin in it", source)
	}

	dir := filepath.Dir(target)
	to, err := os.CreateTemp(dir, "."+filepath.Base(target)+"-")
	if err != nil {
		return 0, advise(dir, err)
	}
	defer func() {
		if err != nil {
			to.Close() // an error says that it is closed already
			os.Remove(to.Name())
		}
	}()
	if size, err = io.Copy(to, from); err != nil {
		return 0, advise(dir, err)
	}
	if err := to.Chmod(mode); err != nil { // CreateTemp makes files that only their owner may read
		return 0, err
	}
	if err := to.Sync(); err != nil {
		return 0, advise(dir, err)
	}
	if err := to.Close(); err != nil {
		return 0, advise(dir, err)
	}
	if err := os.Rename(to.Name(), target); err != nil {
		return 0, err
	}
	return size, syncDir(dir)
}

// syncDir makes a rename in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Not every file system can sync a directory; those that cannot say EINVAL.
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

// advise says what to do about what usually goes wrong with dir.
func advise(dir string, err error) error {
	remedy := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		remedy = "; mount a volume there"
	case errors.Is(err, fs.ErrPermission):
		remedy = fmt.Sprintf("; user %d, group %d must be able to write there (in Kubernetes: fsGroup)",
			os.Getuid(), os.Getgid())
	case errors.Is(err, syscall.EROFS):
		remedy = "; mount a writable volume there"
	case errors.Is(err, syscall.ENOSPC):
		remedy = "; the volume is too small"
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err // the path in it is that of the temporary file
	}
	return fmt.Errorf("cannot write into %s: %w%s", dir, err, remedy)
}
