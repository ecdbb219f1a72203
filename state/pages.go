package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// This file reads a bbolt file page by page and tells whether bbolt can use it. bbolt itself trusts what it maps into
// memory: a damaged page makes it panic in goroutines of its own (DB.freepages, where nothing recovers), recurse
// without end, or touch memory outside the file, and a fault is not even Go's to recover from once Fluent Bit has put
// its own signal handlers back (facts, "What can hurt" 5). So nothing is mapped before this walk, which uses plain
// reads, has seen each page that a transaction can reach. The format is that of bbolt 1.5 (internal/common: page.go,
// meta.go).

// ErrDamaged marks what the file's bytes are to blame for, unlike errors of reading them. OpenFile moves such a file
// aside.
var ErrDamaged = errors.New("damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader  = 16 // id uint64, flags uint16, count uint16, overflow uint32
	elementSize = 16 // leaf: flags, pos, ksize, vsize uint32; branch: pos, ksize uint32, page id uint64
	metaSize    = 64
	bucketSize  = 16 // root page id, sequence uint64

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketFlag   = 0x01

	noFreelist = 1<<64 - 1

	maxFile   = 1 << 38 // 256 GiB: 500 stanzas with 5 million rows each
	maxPiece  = 1 << 26 // 64 MiB: one page with its overflow pages
	maxDepth  = 64      // pages from the root to a leaf, all nested buckets counted; a tree of 2^32 pages needs 32
	maxNested = 8       // buckets in buckets
)

// boltMeta is a meta page: the root of one version of the database.
type boltMeta struct {
	pageSize             uint32
	root, freelist, high uint64 // page ids; high is the first that was never used
	txid                 uint64
}

// readMeta decodes the meta page at off. ok is false where bbolt would not take it either.
func readMeta(r io.ReaderAt, off int64) (m boltMeta, ok bool, err error) {
	var b [pageHeader + metaSize]byte
	if _, err := r.ReadAt(b[:], off); err != nil {
		if errors.Is(err, io.EOF) {
			return m, false, nil
		}
		return m, false, err
	}
	p, native := b[pageHeader:], binary.NativeEndian
	if native.Uint32(p) != boltMagic {
		return m, false, nil
	}
	sum := fnv.New64a()
	_, _ = sum.Write(p[:metaSize-8]) // a hash never fails to write
	if native.Uint64(p[metaSize-8:]) != sum.Sum64() {
		return m, false, nil
	}
	switch v := native.Uint32(p[4:]); {
	case v > boltVersion:
		return m, false, fmt.Errorf("%w (bbolt format %d)", ErrNewer, v)
	case v < boltVersion:
		return m, false, nil
	}
	return boltMeta{
		pageSize: native.Uint32(p[8:]),
		root:     native.Uint64(p[16:]),
		freelist: native.Uint64(p[32:]),
		high:     native.Uint64(p[40:]),
		txid:     native.Uint64(p[48:]),
	}, true, nil
}

// findMeta picks the meta page that bbolt would pick (DB.getPageSize, DB.mmap, DB.meta).
func findMeta(r io.ReaderAt, size int64) (boltMeta, error) {
	first, ok, err := readMeta(r, 0)
	if err != nil {
		return boltMeta{}, err
	}
	for i := 0; !ok && i <= 14; i++ { // the second one stands at the page size, which is in doubt
		off := int64(1024) << i
		if off >= size-1024 {
			break
		}
		if first, ok, err = readMeta(r, off); err != nil {
			return boltMeta{}, err
		}
	}
	if !ok {
		return boltMeta{}, damaged("no valid meta page")
	}
	pageSize := first.pageSize
	if pageSize < 1024 || pageSize > 1<<16 || pageSize&(pageSize-1) != 0 {
		return boltMeta{}, damaged("page size of %d bytes", pageSize)
	}
	best, found := boltMeta{}, false
	for off := int64(0); off <= int64(pageSize); off += int64(pageSize) {
		m, ok, err := readMeta(r, off)
		if err != nil {
			return m, err
		}
		if ok && (!found || m.txid > best.txid) {
			best, found = m, true
		}
	}
	switch {
	case !found:
		return best, damaged("no valid meta page for a page size of %d bytes", pageSize)
	case best.pageSize != pageSize:
		return best, damaged("meta pages of different page sizes, %d and %d bytes", pageSize, best.pageSize)
	case best.txid >= 1<<62:
		return best, damaged("transaction number %d", best.txid)
	case best.high < 4 || best.high > uint64(size)/uint64(pageSize):
		return best, damaged("%d pages of %d bytes do not fit a file of %d bytes", best.high, pageSize, size)
	}
	return best, nil
}

// bitset holds one bit for each page of a file.
type bitset []uint64

func newBitset(n uint64) bitset    { return make(bitset, (n+63)/64) }
func (b bitset) has(i uint64) bool { return b[i/64]&(1<<(i%64)) != 0 }
func (b bitset) set(i uint64)      { b[i/64] |= 1 << (i % 64) }
