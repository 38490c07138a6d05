package fs

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// reader fetches, verifies and opens blocks, and parts of blobs. It knows no tree.
type reader struct {
	store Store
	parts partStore // nil if the store has none
	pages *lru[CID, *page]
	blobs *lru[blobPart, []byte]
	known *lru[CID, *crypt.Parts]
}

// blobPart is a package of a blob, or all of it.
type blobPart struct {
	cid CID
	n   int32 // number of the package, or one of those below
}

// All of a blob: verified by its key and the places of its packages, or by its CID too.
const (
	bySeals = -1
	byCID   = -2
)

// partStore is a Store that can read a part of a block for less than the whole.
type partStore interface {
	// GetPart fills p with bytes of a block from off on, as they lie there: they are not
	// verified against cid. ErrNotFound if the block does not lie in this machine. After an
	// error, a read that was given up may still write to p.
	GetPart(ctx context.Context, cid CID, off int64, p []byte) error
}

const (
	// fewPackages: who wants more of a blob gets it whole, and verified as a whole.
	fewPackages = 3
	// smallBlob: one of so few packages is read whole.
	smallBlob = 4
	// partsMemory is about what the state for reading parts of one blob takes.
	partsMemory = 512
)

func newReader(s Store, memory int64) *reader {
	r := &reader{store: s, pages: newLRU[CID, *page](memory*3/16, memory*3/16), blobs: newLRU[blobPart, []byte](memory/8, memory/2),
		known: newLRU[CID, *crypt.Parts](memory/128, memory/128)}
	r.parts, _ = s.(partStore)
	return r
}

// page returns a page. It has its CID, wherever it lies: what is read of a directory may be
// committed anew with other attributes.
func (r *reader) page(ctx context.Context, kind crypt.PageKind, ptr *crypt.PagePointer) (*page, error) {
	return r.pages.get(ctx, ptr.CID, func() (*page, int64, error) {
		p := r.localPage(ctx, kind, ptr)
		if p == nil {
			sealed, err := r.fetch(ctx, ptr.CID)
			if err != nil {
				return nil, 0, err
			}
			if p, err = openPage(kind, ptr, sealed); err != nil {
				return nil, 0, err
			}
		}
		return p, p.memory(), nil
	})
}

func openPage(kind crypt.PageKind, ptr *crypt.PagePointer, sealed []byte) (*page, error) {
	plain, err := crypt.OpenPage(kind, ptr.Pointer, sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	p, err := decodePage(kind, plain)
	if err != nil {
		return nil, fmt.Errorf("%w: page %s: %w", ErrIntegrity, ptr.CID, err)
	}
	return p, nil
}

// localPage opens a page that lies in this machine, which takes no memory for its sealed form
// then. It returns nil if that cannot be done, as localBlob does.
func (r *reader) localPage(ctx context.Context, kind crypt.PageKind, ptr *crypt.PagePointer) (p *page) {
	if ptr.Length > crypt.PageMax {
		return nil
	}
	r.local(ctx, ptr.CID, crypt.SealedPageSize(int(ptr.Length)), &pageBuffers, func(sealed []byte) {
		if ptr.CID.Verify(sealed) {
			p, _ = openPage(kind, ptr, sealed)
		}
	})
	return p
}

// blob returns the plaintext of a blob. What lies in this machine is verified by its seals
// alone, which have each of its bytes in its place: hashing it would take longer than
// opening it.
func (r *reader) blob(ctx context.Context, ptr crypt.Pointer) ([]byte, error) {
	if r.parts == nil {
		return r.verifiedBlob(ctx, ptr)
	}
	if b, ok := r.blobs.peek(blobPart{ptr.CID, byCID}); ok {
		return b, nil
	}
	return r.blobs.get(ctx, blobPart{ptr.CID, bySeals}, func() ([]byte, int64, error) {
		if b := r.localBlob(ctx, ptr); b != nil {
			return b, blobMemory(b), nil
		}
		b, err := r.openBlob(ctx, ptr)
		return b, blobMemory(b), err
	})
}

// verifiedBlob returns the plaintext of a blob that has its CID: what is to be committed
// anew must be what was committed before, also if who holds the key put another blob where
// it lies.
func (r *reader) verifiedBlob(ctx context.Context, ptr crypt.Pointer) ([]byte, error) {
	return r.blobs.get(ctx, blobPart{ptr.CID, byCID}, func() ([]byte, int64, error) {
		b, err := r.openBlob(ctx, ptr)
		return b, blobMemory(b), err
	})
}

// keep puts a blob of this machine's own into the cache.
func (r *reader) keep(cid CID, b []byte) { r.blobs.put(blobPart{cid, byCID}, b, blobMemory(b)) }

// hasBlob reports whether a blob is there, or on its way.
func (r *reader) hasBlob(cid CID) bool {
	return r.blobs.has(blobPart{cid, byCID}) || r.blobs.has(blobPart{cid, bySeals})
}

func (r *reader) openBlob(ctx context.Context, ptr crypt.Pointer) ([]byte, error) {
	sealed, err := r.fetch(ctx, ptr.CID)
	if err != nil {
		return nil, err
	}
	b, err := crypt.OpenBlob(ptr, sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	return b, nil
}

// localBlob opens a blob that lies in this machine. It returns nil if that cannot be done:
// fetching it tells what is wrong with it, or finds it elsewhere.
func (r *reader) localBlob(ctx context.Context, ptr crypt.Pointer) (b []byte) {
	if ptr.Length == 0 || ptr.Length > crypt.BlobMax {
		return nil
	}
	r.local(ctx, ptr.CID, int(crypt.SealedBlobSize(int(ptr.Length))), &sealBuffers, func(sealed []byte) {
		b, _ = crypt.OpenBlob(ptr, sealed)
	})
	return b
}

// pageBuffers are for sealed pages, as sealBuffers are for blobs.
var pageBuffers = sync.Pool{New: func() any { return new([]byte) }}

// local calls open with the first bytes of a block that lies in this machine, if it can get
// them. They are not verified, and go when open returns.
func (r *reader) local(ctx context.Context, cid CID, size int, buffers *sync.Pool, open func(sealed []byte)) {
	if r.parts == nil {
		return
	}
	buf := buffers.Get().(*[]byte)
	if cap(*buf) < size {
		*buf = make([]byte, size+size/4) // the next may be larger
	}
	sealed := (*buf)[:size]
	err := r.parts.GetPart(ctx, cid, 0, sealed)
	if err != nil && !isNotFound(err) {
		return // the buffer may still be the read's
	}
	if err == nil {
		open(sealed)
	}
	buffers.Put(buf)
}

// read copies bytes of a blob from at on to dst. few says that what lies around them is
// probably not wanted soon: then single packages are fetched and opened, if that can be.
func (r *reader) read(ctx context.Context, ptr crypt.Pointer, at uint32, dst []byte, few bool) error {
	if few && r.readFew(ctx, ptr, at, dst) {
		return nil
	}
	b, err := r.blob(ctx, ptr)
	if err != nil {
		return err
	}
	if uint64(at)+uint64(len(dst)) > uint64(len(b)) {
		return fmt.Errorf("an extent ends beyond blob %s: %w", ptr.CID, ErrIntegrity)
	}
	copy(dst, b[at:])
	return nil
}

// readFew reports whether it filled dst by single packages. If not, for whatever reason,
// the whole blob tells what is wrong with it.
func (r *reader) readFew(ctx context.Context, ptr crypt.Pointer, at uint32, dst []byte) bool {
	first, last := at/crypt.PackageSize, (at+uint32(len(dst))-1)/crypt.PackageSize
	if r.parts == nil || last-first >= fewPackages || last > ptr.LastPackage() || ptr.LastPackage() < smallBlob || r.hasBlob(ptr.CID) {
		return false
	}
	at -= first * crypt.PackageSize
	for n := first; len(dst) > 0; n++ {
		b, err := r.blobs.get(ctx, blobPart{ptr.CID, int32(n)}, func() ([]byte, int64, error) { return r.fetchPart(ctx, ptr, n) })
		if err != nil || int(at) >= len(b) {
			return false
		}
		k := copy(dst, b[at:])
		dst, at = dst[k:], 0
	}
	return true
}

// fetchPart gets one package of a blob and opens it.
func (r *reader) fetchPart(ctx context.Context, ptr crypt.Pointer, n uint32) ([]byte, int64, error) {
	get := func(n uint32) ([]byte, error) {
		off, size := ptr.Package(n)
		b := make([]byte, size)
		return b, r.parts.GetPart(ctx, ptr.CID, off, b)
	}
	parts, err := r.known.get(ctx, ptr.CID, func() (*crypt.Parts, int64, error) {
		final, err := get(ptr.LastPackage())
		if err != nil {
			return nil, 0, err
		}
		p, err := crypt.NewParts(ptr, final)
		return p, partsMemory, err
	})
	if err != nil {
		return nil, 0, err
	}
	sealed, err := get(n)
	if err != nil {
		return nil, 0, err
	}
	b, err := parts.Open(n, sealed)
	return b, blobMemory(b), err
}

// blobMemory is about what a blob takes, with its place in the cache.
func blobMemory(b []byte) int64 { return int64(cap(b)+8191)&^8191 + 256 } // Go gives large ones whole pages

// errBlockMissing: the store does not have a block that the tree needs. That is no
// ErrNotFound: a name behind it must never seem not to exist.
var errBlockMissing = errors.New("the store does not have it")

// fetch gets a block and names the one that is missing or damaged.
func (r *reader) fetch(ctx context.Context, cid CID) ([]byte, error) {
	b, err := r.store.Get(ctx, cid)
	if isNotFound(err) {
		return nil, fmt.Errorf("%w: block %s: %w", ErrIntegrity, cid, errBlockMissing)
	}
	if err != nil {
		return nil, fmt.Errorf("block %s: %w", cid, err)
	}
	return b, nil
}
