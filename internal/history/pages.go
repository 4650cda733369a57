package history

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"slices"
)

// The form of a bbolt file, of which only the two meta pages have a checksum: pages with a header (id, flags, count,
// overflow), then one element for each key; integers in the machine's byte order. See bbolt's internal/common.
const (
	pageSize   = 4096
	headerLen  = 16
	elementLen = 16
	metaLen    = 64
	bornPages  = 4 // metas, freelist, root

	magic   = 0xED0CDAED
	version = 2
	maxTx   = 1 << 62 // far from the number's end

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketValue  = 0x01
)

var order = binary.NativeEndian

type meta struct{ root, freelist, pages, tx uint64 }

// readMeta reads the meta page at the head of b. This program's files are of one page size on every machine.
func readMeta(b []byte) (meta, error) {
	if len(b) < headerLen+metaLen {
		return meta{}, damaged("it is cut short")
	}
	b = b[headerLen : headerLen+metaLen]
	if order.Uint32(b) != magic || order.Uint32(b[4:]) != version || order.Uint32(b[8:]) != pageSize {
		return meta{}, &unusable{"is no state file of kms-auditor"}
	}
	h := fnv.New64a()
	h.Write(b[:metaLen-8])
	if h.Sum64() != order.Uint64(b[metaLen-8:]) {
		return meta{}, damaged("a meta page does not match its checksum")
	}
	return meta{root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]), pages: order.Uint64(b[40:]), tx: order.Uint64(b[48:])}, nil
}

// unborn tells whether a process was killed while it created the file: it is shorter than an empty database is, and
// no transaction was ever begun.
func unborn(file []byte) bool {
	m, err := readMeta(file)
	return err == nil && len(file) < bornPages*pageSize && m.tx == 0
}

// record is a key with its value, as it stands in the file.
type record struct{ key, value []byte }

// walk follows the pages of a file, each once.
type walk struct {
	file []byte
	seen []bool              // by page
	held map[string][]record // by bucket, in the order of keys
}

// readPages returns what the buckets of a file hold, and tells whether bbolt stays inside the file and comes to an end:
// every page in use is there, is what is expected at its place and is used once, and keys are in order.
func readPages(file []byte) (map[string][]record, error) {
	m, err := readMeta(file)
	if err != nil {
		return nil, err
	}
	other, err := readMeta(file[min(pageSize, len(file)):])
	if err != nil {
		return nil, err
	}
	if m.tx%2 != 0 || m.tx-other.tx+1 > 2 || other.tx%2 != 1 || m.tx > maxTx {
		return nil, damaged("its transactions %d and %d do not follow one another", m.tx, other.tx)
	}
	if other.tx > m.tx {
		m = other
	}
	if m.pages > uint64(len(file)/pageSize) {
		return nil, damaged("it is cut short to %d bytes of %d pages", len(file), m.pages)
	}
	w := walk{file, make([]bool, m.pages), map[string][]record{}}
	if err := w.claim(0, 2); err != nil {
		return nil, err
	}
	if err := w.freelist(m.freelist); err != nil {
		return nil, err
	}
	if err := w.tree(m.root, top, nil, nil); err != nil {
		return nil, err
	}
	if i := slices.Index(w.seen, false); i >= 0 {
		return nil, damaged("page %d is neither used nor free", i)
	}
	return w.held, nil
}

func (w *walk) claim(id, n uint64) error {
	if high := uint64(len(w.seen)); n > high || id > high-n {
		return damaged("page %d is beyond the last", id)
	}
	for i := id; i < id+n; i++ {
		if w.seen[i] {
			return damaged("page %d is used twice", i)
		}
		w.seen[i] = true
	}
	return nil
}

// page is a page with those that it overflows into.
type page []byte

func (p page) flags() uint16 { return order.Uint16(p[8:]) }
func (p page) count() int    { return int(order.Uint16(p[10:])) }

func (w *walk) page(id uint64) (page, error) {
	if id >= uint64(len(w.seen)) {
		return nil, damaged("page %d is beyond the last", id)
	}
	b := w.file[id*pageSize:]
	n := 1 + uint64(order.Uint32(b[12:]))
	if err := w.claim(id, n); err != nil {
		return nil, err
	}
	if got := order.Uint64(b); got != id {
		return nil, damaged("page %d says it is page %d", id, got)
	}
	return b[:n*pageSize], nil
}

func (w *walk) freelist(id uint64) error {
	p, err := w.page(id)
	if err != nil {
		return err
	}
	if p.flags() != freelistPage {
		return damaged("page %d is no list of free pages", id)
	}
	ids, n := p[headerLen:], uint64(p.count())
	if n == 0xFFFF { // the number did not fit
		ids, n = ids[8:], order.Uint64(ids)
	}
	if n > uint64(len(ids)/8) {
		return damaged("page %d lists %d free pages", id, n)
	}
	for i := range n {
		if err := w.claim(order.Uint64(ids[8*i:]), 1); err != nil {
			return err
		}
	}
	return nil
}

// top stands for the bucket of all buckets, which has no name.
const top = ""

// tree follows the page of a bucket and all below it; their keys must be from first to before hi, where these are given.
// Were first another key, bbolt would list a page that it changes twice.
func (w *walk) tree(id uint64, bucket string, first, hi []byte) error {
	p, err := w.page(id)
	if err != nil {
		return err
	}
	if p.flags() == leafPage {
		return w.leaf(p, bucket, first, hi)
	}
	if p.flags() != branchPage || p.count() == 0 {
		return damaged("page %d is neither branch nor leaf", id)
	}
	keys, err := p.keys(first, hi, func(e []byte) (pos, size, more uint32) { return order.Uint32(e), order.Uint32(e[4:]), 0 })
	if err != nil {
		return err
	}
	for i, key := range keys {
		next := hi
		if i+1 < len(keys) {
			next = keys[i+1]
		}
		if err := w.tree(order.Uint64(p[headerLen+i*elementLen+8:]), bucket, key, next); err != nil {
			return err
		}
	}
	return nil
}

// leaf reads the records in a leaf page, which are buckets at the top and only there.
func (w *walk) leaf(p page, bucket string, first, hi []byte) error {
	keys, err := p.keys(first, hi, func(e []byte) (pos, size, more uint32) {
		return order.Uint32(e[4:]), order.Uint32(e[8:]), order.Uint32(e[12:])
	})
	if err != nil {
		return err
	}
	for i, key := range keys {
		e := p[headerLen+i*elementLen:]
		flags, at := order.Uint32(e), int(order.Uint32(e[4:]))+len(key)
		value := e[at : at+int(order.Uint32(e[12:]))]
		switch {
		case flags == 0 && bucket != top:
			w.held[bucket] = append(w.held[bucket], record{key, value})
		case flags == bucketValue && bucket != top:
			return errForeign
		case flags != bucketValue:
			return damaged("a value has flags %d", flags)
		default:
			if err := w.bucket(string(key), value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) bucket(name string, value []byte) error {
	const head = 16 // root page, sequence
	if len(value) < head {
		return damaged("a bucket has %d bytes", len(value))
	}
	w.held[name] = []record{}
	if root := order.Uint64(value); root != 0 {
		return w.tree(root, name, nil, nil)
	}
	p := page(value[head:])
	if len(p) < headerLen || p.flags() != leafPage {
		return damaged("a bucket has no page")
	}
	return w.leaf(p, name, nil, nil)
}

// keys returns the keys of the elements, each with as many bytes after it as the element says.
func (p page) keys(first, hi []byte, element func([]byte) (pos, size, more uint32)) ([][]byte, error) {
	if len(p) < headerLen+p.count()*elementLen {
		return nil, damaged("a page has %d elements", p.count())
	}
	keys := make([][]byte, p.count())
	for i := range keys {
		e := p[headerLen+i*elementLen:]
		pos, size, more := element(e)
		if size == 0 || uint64(pos)+uint64(size)+uint64(more) > uint64(len(e)) {
			return nil, damaged("a key or value reaches out of its page")
		}
		key := e[pos : pos+size]
		if i > 0 && bytes.Compare(key, keys[i-1]) <= 0 || hi != nil && bytes.Compare(key, hi) >= 0 {
			return nil, damaged("keys are out of order")
		}
		keys[i] = key
	}
	if first != nil && (len(keys) == 0 || !bytes.Equal(keys[0], first)) {
		return nil, damaged("a page does not begin with the key that led to it")
	}
	return keys, nil
}
