package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// visitor is told what the walk comes by. path holds the names of the buckets around an element, outermost first; it
// and the slices of an element are valid during the call only.
type visitor interface {
	element(path [][]byte, key, value []byte, bucket bool) error
	leave(path [][]byte) error // all elements of the bucket at path were visited
}

// walker walks a file. It holds one page of each level of the tree in memory, and two bits for each page of the file.
type walker struct {
	r        io.ReaderAt
	meta     boltMeta
	pageSize int
	used     bitset // pages that the tree or the free list stand on
	free     bitset // pages in the free list
	pages    int    // that the walk has seen
	buffers  [][]byte
	visit    visitor
}

// walk checks all pages that bbolt can reach and shows the elements to v, in the order of their keys. What it returns
// is ErrDamaged, an error of v, or one of reading.
func walk(r io.ReaderAt, size int64, v visitor) error {
	w, err := newWalker(r, size, v)
	if err != nil {
		return err
	}
	return w.walk()
}

func newWalker(r io.ReaderAt, size int64, v visitor) (*walker, error) {
	if size > maxFile {
		return nil, damaged("%d bytes are more than a state file can have", size)
	}
	m, err := findMeta(r, size)
	if err != nil {
		return nil, err
	}
	return &walker{r: r, meta: m, pageSize: int(m.pageSize), used: newBitset(m.high), free: newBitset(m.high),
		visit: v}, nil
}

func (w *walker) walk() error {
	if w.meta.freelist != noFreelist {
		if err := w.freelist(); err != nil {
			return err
		}
	}
	return w.tree(w.meta.root, nil, nil, nil, 0, true)
}

// page reads the page id and those it flows over into, and marks them. The buffer is that of the level.
func (w *walker) page(id uint64, level int) ([]byte, error) {
	if id < 2 || id >= w.meta.high {
		return nil, damaged("page %d of %d", id, w.meta.high)
	}
	for len(w.buffers) <= level {
		w.buffers = append(w.buffers, make([]byte, w.pageSize))
	}
	b := w.buffers[level][:w.pageSize]
	if err := w.read(b, id); err != nil {
		return nil, err
	}
	native := binary.NativeEndian
	if got := native.Uint64(b); got != id {
		return nil, damaged("page %d says it is page %d", id, got)
	}
	pages := 1 + uint64(native.Uint32(b[12:]))
	if pages > w.meta.high-id || pages > maxPiece/uint64(w.pageSize) {
		return nil, damaged("page %d is %d pages long", id, pages)
	}
	for i := id; i < id+pages; i++ {
		if w.used.has(i) {
			return nil, damaged("page %d is referred to twice", i)
		}
		if w.free.has(i) {
			return nil, damaged("page %d is in use and in the free list", i)
		}
		w.used.set(i)
	}
	w.pages += int(pages)
	if pages > 1 {
		long := int(pages) * w.pageSize
		if cap(b) < long {
			b = make([]byte, long)
			w.buffers[level] = b
		}
		b = b[:long]
		if err := w.read(b, id); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (w *walker) read(b []byte, id uint64) error {
	if _, err := w.r.ReadAt(b, int64(id)*int64(w.pageSize)); err != nil {
		if errors.Is(err, io.EOF) {
			return damaged("the file ends in page %d", id)
		}
		return err
	}
	return nil
}

func (w *walker) freelist() error {
	b, err := w.page(w.meta.freelist, 0)
	if err != nil {
		return err
	}
	native := binary.NativeEndian
	if flags := native.Uint16(b[8:]); flags != freelistPage {
		return damaged("the free list on page %d is of type %#x", w.meta.freelist, flags)
	}
	count, ids := uint64(native.Uint16(b[10:])), b[pageHeader:]
	if count == 0xFFFF { // too many for the field: the first number is the count
		count, ids = native.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return damaged("%d free pages in a list of %d bytes", count, len(ids))
	}
	for last := uint64(1); count > 0; count-- {
		id := native.Uint64(ids)
		if id <= last || id >= w.meta.high {
			return damaged("free page %d after %d of %d", id, last, w.meta.high)
		}
		if w.used.has(id) {
			return damaged("page %d holds the free list and is in it", id)
		}
		w.free.set(id)
		last, ids = id, ids[8:]
	}
	return nil
}

// tree walks the pages below id. Their keys have to begin with lo, by which the page above refers to this one, and to
// be less than hi; nil, at a root and at the right edge, is no bound. bbolt finds a page's entry in the page above by
// its first key (node.spill, node.rebalance), so a key that differs would make it leave an old entry behind.
func (w *walker) tree(id uint64, path [][]byte, lo, hi []byte, level int, root bool) error {
	if level >= maxDepth {
		return damaged("more than %d pages on top of each other", maxDepth)
	}
	b, err := w.page(id, level)
	if err != nil {
		return err
	}
	native := binary.NativeEndian
	switch flags := native.Uint16(b[8:]); flags {
	case leafPage:
		return w.leaf(b, id, path, lo, hi, level, root)
	case branchPage:
	default:
		return damaged("page %d is of type %#x", id, flags)
	}
	count := int(native.Uint16(b[10:]))
	if count == 0 || count > (len(b)-pageHeader)/elementSize {
		return damaged("page %d has %d branches", id, count)
	}
	for i := range count {
		key, err := w.branchKey(b, id, i, count)
		if err != nil {
			return err
		}
		next := hi
		if i+1 < count {
			if next, err = w.branchKey(b, id, i+1, count); err != nil {
				return err
			}
		}
		if i == 0 && lo != nil && !bytes.Equal(key, lo) || next != nil && bytes.Compare(key, next) >= 0 {
			return damaged("branch %d of page %d is out of order", i, id)
		}
		child := native.Uint64(b[pageHeader+i*elementSize+8:])
		if err := w.tree(child, path, key, next, level+1, false); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) branchKey(b []byte, id uint64, i, count int) ([]byte, error) {
	at := pageHeader + i*elementSize
	native := binary.NativeEndian
	pos, ksize := native.Uint32(b[at:]), native.Uint32(b[at+4:])
	return piece(b, id, i, count, uint64(at)+uint64(pos), uint64(ksize))
}

// leaf walks the elements of a leaf page, or of the page that a small bucket has inside its parent's element.
func (w *walker) leaf(b []byte, id uint64, path [][]byte, lo, hi []byte, level int, root bool) error {
	native := binary.NativeEndian
	inline := id == 0 // bbolt keeps a bucket inside its parent's element only while it has no buckets itself
	count := int(native.Uint16(b[10:]))
	if count > (len(b)-pageHeader)/elementSize {
		return damaged("page %d has %d elements", id, count)
	}
	if count == 0 && !root { // bbolt takes an emptied leaf out of its tree, and indexes out of range where one is left
		return damaged("page %d is empty", id)
	}
	var last []byte
	for i := range count {
		at := pageHeader + i*elementSize
		flags, pos := native.Uint32(b[at:]), native.Uint32(b[at+4:])
		ksize, vsize := uint64(native.Uint32(b[at+8:])), uint64(native.Uint32(b[at+12:]))
		start := uint64(at) + uint64(pos)
		key, err := piece(b, id, i, count, start, ksize)
		if err != nil {
			return err
		}
		if flags > bucketFlag || flags == bucketFlag && inline || start+ksize+vsize > uint64(len(b)) {
			return damaged("element %d of page %d has flags %#x and a value of %d bytes", i, id, flags, vsize)
		}
		value := b[start+ksize : start+ksize+vsize]
		if i == 0 && lo != nil && !bytes.Equal(key, lo) || i > 0 && bytes.Compare(key, last) <= 0 ||
			hi != nil && bytes.Compare(key, hi) >= 0 {
			return damaged("element %d of page %d is out of order", i, id)
		}
		last = key
		if err := w.visit.element(path, key, value, flags == bucketFlag); err != nil {
			return err
		}
		if flags == bucketFlag {
			if err := w.bucket(value, append(path[:len(path):len(path)], key), level+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket walks a nested bucket: value is the root page's id and a sequence, then the page itself if the id is 0.
func (w *walker) bucket(value []byte, path [][]byte, level int) error {
	if len(path) > maxNested || len(value) < bucketSize {
		return damaged("bucket of %d bytes, %d deep", len(value), len(path))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		if err := w.tree(root, path, nil, nil, level, true); err != nil {
			return err
		}
		return w.visit.leave(path)
	}
	b := value[bucketSize:]
	if len(b) < pageHeader {
		return damaged("bucket with a page of %d bytes inside", len(b))
	}
	native := binary.NativeEndian
	if id, flags, over := native.Uint64(b), native.Uint16(b[8:]), native.Uint32(b[12:]); id != 0 || flags != leafPage ||
		over != 0 {
		return damaged("bucket with a page inside of id %d, type %#x, overflow %d", id, flags, over)
	}
	if err := w.leaf(b, 0, path, nil, nil, level, true); err != nil {
		return err
	}
	return w.visit.leave(path)
}

// piece returns the key of an element, which has to lie between the elements and the page's end.
func piece(b []byte, id uint64, i, count int, start, size uint64) ([]byte, error) {
	if size == 0 || start < uint64(pageHeader+count*elementSize) || start+size > uint64(len(b)) {
		return nil, damaged("key %d of page %d: %d bytes at %d", i, id, size, start)
	}
	return b[start : start+size], nil
}
