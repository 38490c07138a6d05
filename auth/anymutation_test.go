package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

var mutationNames = slices.Sorted(maps.Keys(mutations))

// large are the mutations that make an entry so large that there cannot be many of them.
var large = map[string]bool{"services": true, "services, tiny": true, "our services": true, "devices, many": true, "hashes full": true, "hashes of devices": true}

// mutations are what a thief's entry may do besides. Most of them do harm, if they hold.
var mutations = map[string]func(f *forger, d *draft){
	// The parameters, one after the other.
	"witness": func(f *forger, d *draft) {
		d.params["witness"] = object{"threshold": 1.0, "witnesses": []any{object{"id": "did:key:" + multikeyOf(f.newKey())}}}
	},
	"witness none":  func(f *forger, d *draft) { d.params["witness"] = object{} },
	"watchers":      func(f *forger, d *draft) { d.params["watchers"] = []any{"https://thief.example/" + f.text()} },
	"portable off":  func(f *forger, d *draft) { d.params["portable"] = false },
	"deactivated":   func(f *forger, d *draft) { d.params["deactivated"] = f.r.IntN(2) == 0 },
	"ttl":           func(f *forger, d *draft) { d.params["ttl"] = float64(f.r.IntN(1 << 31)) },
	"method":        func(f *forger, d *draft) { d.params["method"] = webvh.Method10 },
	"other method":  func(f *forger, d *draft) { d.params["method"] = f.value(1) },
	"scid":          func(f *forger, d *draft) { d.params["scid"] = f.log.SCID() },
	"any parameter": func(f *forger, d *draft) { d.params[f.text()] = f.value(3) },
	"known parameter": func(f *forger, d *draft) {
		d.params[anyOf(f, "witness", "ttl", "portable", "watchers", "updateKeys", "nextKeyHashes")] = f.value(2)
	},
	"more update keys": func(f *forger, d *draft) {
		d.params["updateKeys"] = append(listOf(d.params["updateKeys"]), multikeyOf(f.newKey()))
	},
	// The next keys: those of others gone, marks gone, any number of one's own.
	"hashes dropped": func(f *forger, d *draft) {
		recovery := webvh.RecoveryHashes(f.log.Params().NextKeyHashes)
		d.params["nextKeyHashes"] = slices.DeleteFunc(listOf(d.params["nextKeyHashes"]), func(v any) bool {
			h, _ := v.(string)
			kept := f.keys[h] != nil || slices.ContainsFunc(recovery, func(r string) bool { return h == r || h == webvh.MarkRecovery(r) })
			return !kept && f.r.IntN(3) > 0
		})
	},
	"any hash dropped": func(f *forger, d *draft) {
		if list := listOf(d.params["nextKeyHashes"]); len(list) > 0 { // another mutation may have made it something else
			i := f.r.IntN(len(list))
			d.params["nextKeyHashes"] = slices.Delete(list, i, i+1)
		}
	},
	"hashes full": func(f *forger, d *draft) {
		list := listOf(d.params["nextKeyHashes"])
		for room := webvh.MaxKeys - len(list) - f.r.IntN(2); room > 0; room-- {
			list = append(list, webvh.HashKey(fmt.Sprint(f.r.Uint64())))
		}
		d.params["nextKeyHashes"] = list
	},
	"hashes of devices": func(f *forger, d *draft) {
		// As many devices as there is room for, all with a next key and its mark.
		list := listOf(d.params["nextKeyHashes"])
		id := f.log.Last().ID.String()
		for room := webvh.MaxKeys - len(list); room > 1; room -= 2 {
			k := f.newKey()
			h := f.key()
			name := deviceID(signerPublic(k))
			list = append(list, h, webvh.MarkDevice(name, h))
			f.list(d, object{"id": id + "#" + name, "type": "Multikey", "controller": id, "publicKeyMultibase": multikeyOf(k)})
		}
		d.params["nextKeyHashes"] = list
	},
	"hash of anything": func(f *forger, d *draft) {
		d.params["nextKeyHashes"] = append(listOf(d.params["nextKeyHashes"]), f.value(1))
	},
	"long hashes": func(f *forger, d *draft) {
		d.params["nextKeyHashes"] = append(listOf(d.params["nextKeyHashes"]), strings.Repeat("h", 1+f.r.IntN(4096)))
	},
	"recovery of one's own": func(f *forger, d *draft) {
		h := f.key()
		d.params["nextKeyHashes"] = append(listOf(d.params["nextKeyHashes"]), h, webvh.MarkRecovery(h))
	},
	// The document.
	"deactivated document": func(f *forger, d *draft) { d.state["deactivated"] = f.value(0) },
	"any member":           func(f *forger, d *draft) { d.state[f.text()] = f.value(4) },
	"known member": func(f *forger, d *draft) {
		d.state[anyOf(f, "@context", "controller", "alsoKnownAs", "verificationMethod", "authentication", "assertionMethod", "keyAgreement", "service")] = f.value(4)
	},
	"member gone": func(f *forger, d *draft) {
		delete(d.state, anyOf(f, "@context", "controller", "alsoKnownAs", "verificationMethod", "authentication", "assertionMethod", "service"))
	},
	"context":    func(f *forger, d *draft) { d.state["@context"] = f.value(5) },
	"controller": func(f *forger, d *draft) { d.state["controller"] = f.value(3) },
	"deep":       func(f *forger, d *draft) { d.state["@context"] = f.deep() },
	"deep service": func(f *forger, d *draft) {
		d.state["service"] = []any{object{"id": "#deep", "type": "T", "serviceEndpoint": f.deep()}}
	},
	"names": func(f *forger, d *draft) {
		list := []any{}
		for range 1 + f.r.IntN(40) {
			list = append(list, f.text())
		}
		d.state["alsoKnownAs"] = list
	},
	"a name": func(f *forger, d *draft) { d.state["alsoKnownAs"] = f.text() },
	"key of another type": func(f *forger, d *draft) {
		id := f.log.Last().ID.String()
		k := object{"id": id + "#k" + f.text(), "type": anyOf(f, "JsonWebKey", "JsonWebKey2020", "EcdsaSecp256k1VerificationKey2019", "Multikey", f.text()), "controller": id,
			"publicKeyJwk": object{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}}
		f.list(d, k)
	},
	"key of nobody": func(f *forger, d *draft) {
		f.list(d, object{"id": "did:web:thief.example#key", "type": f.text(), "controller": f.text()})
	},
	"key inside": func(f *forger, d *draft) {
		d.state["authentication"] = append(listOf(d.state["authentication"]), f.device())
	},
	"device": func(f *forger, d *draft) {
		for range 1 + f.r.IntN(5) {
			f.list(d, f.device())
		}
	},
	"devices, many": func(f *forger, d *draft) {
		for range f.r.IntN(300) {
			f.list(d, f.device())
		}
	},
	"device twice": func(f *forger, d *draft) {
		k := f.device()
		again := maps.Clone(k)
		again["id"] = "#again"
		f.list(d, k)
		f.list(d, again)
	},
	"only me": func(f *forger, d *draft) {
		d.state["verificationMethod"], d.state["authentication"], d.state["assertionMethod"] = []any{}, []any{}, []any{}
		f.list(d, f.device())
	},
	"expires": func(f *forger, d *draft) {
		k := f.device()
		k["expires"] = anyOf(f, "2030-01-01T00:00:00Z", "0000-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "0000-06-01T00:00:00Z", "2020-01-01T00:00:00.5Z", "never", "0001-01-01T00:00:00Z")
		f.list(d, k)
	},
	"services": func(f *forger, d *draft) {
		list := []any{}
		for range 1 + f.r.IntN(100) {
			s := object{"id": f.text(), "type": f.text(), "serviceEndpoint": f.value(4)}
			if f.r.IntN(5) == 0 {
				delete(s, anyOf(f, "id", "type", "serviceEndpoint"))
			}
			if f.r.IntN(5) == 0 {
				s[f.text()] = f.value(2)
			}
			if f.r.IntN(5) == 0 {
				s["type"] = []any{f.text(), f.text()}
			}
			list = append(list, s)
		}
		d.state["service"] = list
	},
	"services, tiny": func(f *forger, d *draft) {
		list := []any{}
		for range f.r.IntN(6000) {
			list = append(list, object{"serviceEndpoint": 1e20})
		}
		d.state["service"] = list
	},
	"our services": func(f *forger, d *draft) {
		list := []any{}
		for i := range 70 {
			u := fmt.Sprintf("https://thief.example/%d/%s", i, strings.Repeat("x", f.r.IntN(1900)))
			list = append(list, object{"id": f.log.Last().ID.String() + serviceFragment(u), "type": strings.Repeat("t", f.r.IntN(300)), "serviceEndpoint": u})
		}
		d.state["service"] = list
	},
	// Places.
	"moved": func(f *forger, d *draft) { f.move(d, fmt.Sprintf("thief%d.example", f.r.IntN(1000))) },
	"moved far": func(f *forger, d *draft) {
		f.move(d, "thief.example:"+strings.Repeat("a", 1+f.r.IntN(2100)))
	},
	"moved by half": func(f *forger, d *draft) { d.state["id"] = "did:webvh:" + f.log.SCID() + ":thief.example" },
	"other id":      func(f *forger, d *draft) { d.state["id"] = f.value(1) },
	// Times.
	"soon": func(f *forger, d *draft) {
		d.time = time.Now().UTC().Add(webvh.MaxSkew - time.Duration(f.r.IntN(3000))*time.Microsecond).Format(time.RFC3339Nano)
	},
	"any time": func(f *forger, d *draft) {
		d.time = anyOf(f, "9999-12-31T23:59:59Z", "2000-01-01T00:00:00Z", "", f.text(), f.log.Last().Time.Add(time.Nanosecond).Format(time.RFC3339Nano))
	},
	// Proofs.
	"proof ends":    func(f *forger, d *draft) { d.proof["expires"] = time.Now().UTC().Add(time.Minute).Format(time.RFC3339) },
	"proof of more": func(f *forger, d *draft) { d.proof[f.text()] = f.value(2) },
	"proofs":        func(f *forger, d *draft) { d.proofs = f.r.IntN(18) },
	"spaces":        func(f *forger, d *draft) { d.pad = f.r.IntN(64 << 10) },
}

func anyOf(f *forger, list ...string) string { return list[f.r.IntN(len(list))] }

func signerPublic(k interface{ Seed() []byte }) []byte {
	s, err := copySecret(k.Seed())
	if err != nil {
		panic(err)
	}
	defer s.wipe()
	return signingPublic(s)
}

// device is a verification method, as a document lists one.
func (f *forger) device() object {
	k := f.newKey()
	id := f.log.Last().ID.String()
	return object{"id": anyOf(f, id+"#"+deviceID(signerPublic(k)), "#"+deviceID(signerPublic(k)), fmt.Sprintf("#%d", f.r.Uint64())),
		"type": "Multikey", "controller": id, "publicKeyMultibase": multikeyOf(k)}
}

// list puts a verification method into the document.
func (f *forger) list(d *draft, k object) {
	d.state["verificationMethod"] = append(listOf(d.state["verificationMethod"]), k)
	for _, r := range []did.Relationship{did.Authentication, did.AssertionMethod} {
		if f.r.IntN(4) > 0 {
			d.state[string(r)] = append(listOf(d.state[string(r)]), k["id"])
		}
	}
}

// move gives the document another place, with all the ids in it or without.
func (f *forger) move(d *draft, place string) {
	old := f.log.Last().ID.String()
	d.state["id"] = "did:webvh:" + f.log.SCID() + ":" + place
	d.state["alsoKnownAs"] = append(listOf(d.state["alsoKnownAs"]), old)
}
