package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/multiformats/go-multibase"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/jcs"
	"github.com/cluster-labs/ipfscloud/auth/did/proof"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// forger writes entries as somebody does who has stolen a device: they hash and are signed
// as they should, and say whatever may help him.
type forger struct {
	r    *rand.Rand
	log  *webvh.Log
	keys map[string]ed25519.PrivateKey // by hash
	// fat: this one writes as much as he may.
	fat bool
	did []string // what has changed in the entries that held
}

type object = map[string]any

// draft is an entry before it is signed.
type draft struct {
	params, state object
	time          string
	proofs        int
	proof         object // members of the proof, besides those that it must have
	pad           int    // bytes of spaces in the line
}

// next tries to add an entry. It tells what the entry was to do, and whether it held.
func (f *forger) next(ctx context.Context) (tried []string, held bool) {
	var signer ed25519.PrivateKey
	for _, h := range f.log.Params().NextKeyHashes {
		if k := f.keys[h]; k != nil {
			signer = k
		}
	}
	if signer == nil {
		return nil, false
	}
	d := f.plain(signer)
	n := 1 + f.r.IntN(3)
	if f.r.IntN(8) == 0 {
		n = 0
	}
	for range n {
		name := mutationNames[f.r.IntN(len(mutationNames))]
		if large[name] && !f.fat && f.r.IntN(8) > 0 {
			continue
		}
		mutations[name](f, d)
		tried = append(tried, name)
	}
	if f.fat && f.r.IntN(2) == 0 {
		f.fill(d)
	}
	line, err := f.sealed(ctx, d, signer)
	if err != nil {
		return append(tried, err.Error()), false
	}
	l, err := webvh.Rules().Extend(f.log, line)
	if err != nil {
		return append(tried, err.Error()), false
	}
	f.log = l
	f.did = append(f.did, strings.Join(tried, "+"))
	return tried, true
}

// plain is an entry that changes nothing but the forger's own key.
func (f *forger) plain(signer ed25519.PrivateKey) *draft {
	last := f.log.Last()
	d := &draft{params: object{}, time: time.Now().UTC().Truncate(time.Second).Format(time.RFC3339), proofs: 1, proof: object{}}
	if at := time.Now().UTC().Truncate(time.Second); !at.After(last.Time) {
		d.time = last.Time.Add(time.Millisecond).Format(time.RFC3339Nano)
	}
	var err error
	if d.state, err = jcs.Object(last.State()); err != nil {
		panic(err)
	}
	multi := multikeyOf(signer)
	hashes := []any{f.key()}
	for _, h := range f.log.Params().NextKeyHashes {
		if h != webvh.HashKey(multi) {
			hashes = append(hashes, h)
		}
	}
	d.params["updateKeys"], d.params["nextKeyHashes"] = []any{multi}, hashes[:min(len(hashes), webvh.MaxKeys)]
	// The recovery key's are at any place in the list, and must stay in it.
	for _, h := range webvh.RecoveryHashes(f.log.Params().NextKeyHashes) {
		for i, keep := range []string{h, webvh.MarkRecovery(h)} {
			if list := d.params["nextKeyHashes"].([]any); !slices.Contains(list, any(keep)) {
				list[len(list)-1-i] = keep
			}
		}
	}
	return d
}

// key makes one more key of the forger's, and returns its hash.
func (f *forger) key() string {
	k := f.newKey()
	h := webvh.HashKey(multikeyOf(k))
	f.keys[h] = k
	return h
}

func (f *forger) newKey() ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(f.r.Uint32())
	}
	return ed25519.NewKeyFromSeed(seed)
}

func multikeyOf(k ed25519.PrivateKey) string {
	text, err := did.Multikey(did.Ed25519, k.Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return text
}

// sealed hashes and signs an entry, whatever it says.
func (f *forger) sealed(ctx context.Context, d *draft, signer ed25519.PrivateKey) ([]byte, error) {
	body := object{"versionId": f.log.Last().VersionID, "versionTime": d.time, "parameters": d.params, "state": d.state}
	text, err := jcs.Marshal(body)
	if err != nil {
		return nil, err
	}
	body["versionId"] = fmt.Sprintf("%d-%s", f.log.Len()+1, webvh.HashKey(string(text)))
	p := object{
		"type": proof.Type, "cryptosuite": proof.Cryptosuite, "proofPurpose": proof.Purpose,
		"verificationMethod": proof.Method(multikeyOf(signer)), "created": time.Now().UTC().Format(time.RFC3339),
	}
	for name, v := range d.proof {
		p[name] = v
	}
	var msg []byte
	for _, o := range []object{p, body} {
		b, err := jcs.Marshal(o)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		msg = append(msg, sum[:]...)
	}
	if p["proofValue"], err = multibase.Encode(multibase.Base58BTC, ed25519.Sign(signer, msg)); err != nil {
		return nil, err
	}
	proofs := []any{}
	for range d.proofs {
		proofs = append(proofs, p)
	}
	body["proof"] = proofs
	line, err := jcs.Marshal(body)
	if err != nil {
		return nil, err
	}
	return append(append([]byte("{"), strings.Repeat(" ", d.pad)...), line[1:]...), ctx.Err()
}

// fill makes an entry as large as still holds, in one place or another.
func (f *forger) fill(d *draft) {
	n := 200<<10 + f.r.IntN(320<<10)
	text := strings.Repeat("a", n)
	switch id := f.log.Last().ID.String(); f.r.IntN(4) {
	case 0:
		d.state["@context"] = []any{text}
	case 1:
		d.state["alsoKnownAs"] = append(listOf(d.state["alsoKnownAs"]), "x:"+text)
	case 2:
		d.state["service"] = []any{object{"id": "#x", "type": "T", "serviceEndpoint": text}}
	case 3:
		var list []any
		for i := range n / (2*len(id) + 100) {
			list = append(list, object{"id": fmt.Sprintf("%s#%d", id, i), "type": "T", "serviceEndpoint": id})
		}
		d.state["service"] = list
	}
}

func listOf(v any) []any {
	list, _ := v.([]any)
	return slices.Clone(list)
}

// text is a string of anything.
func (f *forger) text() string {
	if f.r.IntN(3) == 0 {
		return []string{"", "#", "#files", "#whois", "id", "did:key:z6Mk", "https://thief.example/", "deactivated", "\u0000\u001b[2J", "\u202e", "😀", f.log.Last().ID.String(), f.log.Last().ID.String() + "#x"}[f.r.IntN(13)]
	}
	var b strings.Builder
	for range f.r.IntN(12) {
		b.WriteRune(rune(f.r.IntN(0xd7ff)))
	}
	return b.String()
}

// value is a JSON value of anything, at most so deep.
func (f *forger) value(depth int) any {
	switch n := f.r.IntN(8); {
	case n == 0:
		return nil
	case n == 1:
		return f.r.IntN(2) == 0
	case n == 2:
		return []float64{0, math.Copysign(0, -1), 1, -1, 0.1, 5e-324, 1e20, 1e21, 1e300, math.MaxFloat64, 1 << 53}[f.r.IntN(11)]
	case n <= 4 || depth <= 0:
		return f.text()
	case n == 5:
		list := []any{}
		for range f.r.IntN(4) {
			list = append(list, f.value(depth-1))
		}
		return list
	default:
		o := object{}
		for range f.r.IntN(4) {
			o[f.text()] = f.value(depth - 1)
		}
		return o
	}
}

// deep is nested as far as the reader of JSON goes, or not quite.
func (f *forger) deep() any {
	var v any = "x"
	for range 80 + f.r.IntN(25) {
		v = []any{v}
	}
	return v
}

// forgeries tells of all entries that were tried.
type forgeries struct {
	tried, held map[string]int
}

func (n *forgeries) count(names []string, held bool) {
	for _, name := range names {
		if _, ok := mutations[name]; ok {
			n.tried[name]++
			if held {
				n.held[name]++
			}
		}
	}
}

// mayFail are the reasons why a device cannot write on top of a thief's entries until the
// owner has recovered: the thief has taken its update key out, as another device may, and
// perhaps made it one that only reads, or has filled the room that entries without the recovery key have.
func mayFail(err error) bool {
	var named *did.Error
	return errors.Is(err, ErrDevice) || errors.Is(err, ErrScope) || errors.As(err, &named) && named.Kind == webvh.KindRecovery && strings.Contains(named.Reason, "makes room")
}
