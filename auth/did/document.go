package did

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// MaxDocument bounds a document, in bytes.
const MaxDocument = 1 << 20

// Relationship is what a document allows a key for.
type Relationship string

// The relationships of DID Core.
const (
	Authentication       Relationship = "authentication"       // login
	AssertionMethod      Relationship = "assertionMethod"      // claims
	KeyAgreement         Relationship = "keyAgreement"         // encryption to the subject
	CapabilityInvocation Relationship = "capabilityInvocation" // use of a capability
	CapabilityDelegation Relationship = "capabilityDelegation" // handing one on
)

func relationships() [5]Relationship {
	return [...]Relationship{Authentication, AssertionMethod, KeyAgreement, CapabilityInvocation, CapabilityDelegation}
}

// Document is a DID document: its bytes as they came, and what they say. It is not
// changed after it was made, and its slices are not for writing.
type Document struct {
	ID          string
	Version     Version // set by the method
	Deactivated bool
	Former      []string             // the DIDs that it had before it moved; set by the method
	AlsoKnownAs []string             // what the document says; whether it is true is for the other name to say
	Keys        []VerificationMethod // all, also those that stand in a relationship only
	Services    []Service

	raw   []byte
	uses  map[Relationship][]string // key ids, each once
	index map[string]int            // of Keys, by id: a document may list thousands
}

// VerificationMethod is a public key of a document.
type VerificationMethod struct {
	ID         string // absolute: the DID, '#' and a fragment
	Controller string
	Kind       string  // "type" in the document
	Type       KeyType // what Public is; TypeUnknown when this package cannot read it
	Public     []byte
	Expires    time.Time // as the document says; zero for never
}

// Service is a service of a document.
type Service struct {
	ID       string
	Type     string
	Endpoint json.RawMessage // a string, an object, or a list of them
}

// Parse reads the document of a DID; it must be the document of exactly that DID.
// Unknown members are kept in Raw and ignored otherwise. The version stays zero.
func Parse(id string, raw []byte) (*Document, error) {
	if len(raw) > MaxDocument {
		return nil, fmt.Errorf("document of %d bytes, at most %d: %w", len(raw), MaxDocument, ErrInvalid)
	}
	top, err := object(raw)
	if err != nil {
		return nil, err
	}
	d := &Document{raw: bytes.Clone(raw), uses: make(map[Relationship][]string), index: make(map[string]int)}
	if err := top.get("id", &d.ID); err != nil {
		return nil, err
	}
	if _, err := methodOf(id); err != nil {
		return nil, err
	}
	if d.ID != id {
		return nil, fmt.Errorf("document of %.200q in place of %s: %w", d.ID, id, ErrInvalid)
	}
	if err := top.get("deactivated", &d.Deactivated); err != nil {
		return nil, err
	}
	if err := d.parseNames(top); err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if err := top.get("verificationMethod", &list); err != nil {
		return nil, err
	}
	for _, m := range list {
		if _, err := d.addKey(m); err != nil {
			return nil, err
		}
	}
	for _, r := range relationships() {
		if err := d.parseUses(top, r); err != nil {
			return nil, err
		}
	}
	return d, d.parseServices(top)
}

// parseNames reads alsoKnownAs: a list, or the single string that some documents have.
func (d *Document) parseNames(top members) error {
	if raw := top["alsoKnownAs"]; len(raw) > 0 && raw[0] == '"' {
		var one string
		err := top.get("alsoKnownAs", &one)
		d.AlsoKnownAs = []string{one}
		return err
	}
	return top.get("alsoKnownAs", &d.AlsoKnownAs)
}

func (d *Document) parseUses(top members, r Relationship) error {
	var list []json.RawMessage
	if err := top.get(string(r), &list); err != nil {
		return err
	}
	seen := make(map[string]bool, len(list))
	for _, m := range list {
		var id string
		if len(m) > 0 && m[0] == '{' { // a key for this purpose only
			k, err := d.addKey(m)
			if err != nil {
				return fmt.Errorf("%s: %w", r, err)
			}
			id = k
		} else if err := json.Unmarshal(m, &id); err != nil {
			return fmt.Errorf("%s: %w", r, ErrInvalid)
		}
		if id = d.absolute(id); !seen[id] {
			seen[id] = true
			d.uses[r] = append(d.uses[r], id)
		}
	}
	return nil
}

func (d *Document) parseServices(top members) error {
	var list []json.RawMessage
	if err := top.get("service", &list); err != nil {
		return err
	}
	for _, m := range list {
		o, err := object(m)
		if err != nil {
			return fmt.Errorf("service: %w", err)
		}
		var s Service
		if err := o.get("id", &s.ID); err != nil {
			return fmt.Errorf("service: %w", err)
		}
		// A service may have several types; the first names it here.
		if t := o["type"]; len(t) > 0 && t[0] == '[' {
			var types []string
			if err := o.get("type", &types); err != nil {
				return fmt.Errorf("service: %w", err)
			}
			if len(types) > 0 {
				s.Type = types[0]
			}
		} else if err := o.get("type", &s.Type); err != nil {
			return fmt.Errorf("service: %w", err)
		}
		s.ID, s.Endpoint = d.absolute(s.ID), o["serviceEndpoint"]
		d.Services = append(d.Services, s)
	}
	return nil
}

func (d *Document) addKey(raw json.RawMessage) (string, error) {
	o, err := object(raw)
	if err != nil {
		return "", fmt.Errorf("verification method: %w", err)
	}
	var k VerificationMethod
	for name, to := range map[string]*string{"id": &k.ID, "type": &k.Kind, "controller": &k.Controller} {
		if err := o.get(name, to); err != nil {
			return "", fmt.Errorf("verification method: %w", err)
		}
	}
	k.ID = d.absolute(k.ID)
	if !strings.Contains(k.ID, "#") || strings.HasSuffix(k.ID, "#") {
		return "", fmt.Errorf("verification method id %.200q has no fragment: %w", k.ID, ErrInvalid)
	}
	if _, twice := d.index[k.ID]; twice {
		return "", fmt.Errorf("two verification methods %.200q: %w", k.ID, ErrInvalid)
	}
	if k.Type, k.Public, err = publicKey(k.Kind, o); err != nil {
		return "", fmt.Errorf("verification method %.200q: %w", k.ID, err)
	}
	var expires string
	if err := o.get("expires", &expires); err != nil {
		return "", fmt.Errorf("verification method %.200q: %w", k.ID, err)
	}
	if expires != "" {
		// A year that has no four digits once it is in UTC could be read and not be written
		// again: the document could not be changed any more.
		k.Expires, err = time.Parse(time.RFC3339, expires)
		if year := k.Expires.UTC().Year(); err != nil || k.Expires.IsZero() || year < 0 || year > 9999 {
			return "", fmt.Errorf("verification method %.200q: expires %.80q is no time: %w", k.ID, expires, ErrInvalid)
		}
	}
	d.index[k.ID] = len(d.Keys)
	d.Keys = append(d.Keys, k)
	return k.ID, nil
}

func (d *Document) absolute(id string) string {
	if strings.HasPrefix(id, "#") {
		return d.ID + id
	}
	return id
}

// Raw is the document as it came.
func (d *Document) Raw() []byte { return bytes.Clone(d.raw) }

// Key returns the key of exactly this id if the document allows it for this purpose now and
// the DID itself controls it. ErrDeactivated, ErrKeyNotFound, ErrRelationship: also of a key
// that has expired.
func (d *Document) Key(purpose Relationship, kid string) (VerificationMethod, error) {
	if d.Deactivated {
		return VerificationMethod{}, fmt.Errorf("%s: %w", d.ID, ErrDeactivated)
	}
	k, ok := d.find(kid)
	if !ok {
		return VerificationMethod{}, fmt.Errorf("key %.200q: %w", kid, ErrKeyNotFound)
	}
	if !k.Expires.IsZero() && time.Now().After(k.Expires) {
		return VerificationMethod{}, fmt.Errorf("key %.200q has expired at %s: %w", kid, k.Expires.Format(time.RFC3339), ErrRelationship)
	}
	for _, id := range d.uses[purpose] {
		if id == kid {
			return k, nil
		}
	}
	return VerificationMethod{}, fmt.Errorf("key %.200q for %s: %w", kid, purpose, ErrRelationship)
}

// KeysFor are the keys for a purpose, in the order of the document, expired ones too; none
// when the DID is deactivated.
func (d *Document) KeysFor(purpose Relationship) []VerificationMethod {
	if d.Deactivated {
		return nil
	}
	var keys []VerificationMethod
	for _, id := range d.uses[purpose] {
		if k, ok := d.find(id); ok {
			keys = append(keys, k)
		}
	}
	return keys
}

// find leaves out keys that another DID controls or names: this document cannot vouch
// for them.
func (d *Document) find(kid string) (VerificationMethod, bool) {
	i, ok := d.index[kid]
	if !ok || d.Keys[i].Controller != d.ID || !strings.HasPrefix(kid, d.ID+"#") {
		return VerificationMethod{}, false
	}
	return d.Keys[i], true
}

// members are the members of a JSON object under their exact names: encoding/json would
// match a struct's fields in any case, and let the last of two win.
type members map[string]json.RawMessage

func object(raw []byte) (members, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("not a JSON object: %w", ErrInvalid)
	}
	m := make(members)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("JSON: %v: %w", err, ErrInvalid)
		}
		name, _ := t.(string)
		if _, twice := m[name]; twice {
			return nil, fmt.Errorf("member %.80q twice: %w", name, ErrInvalid)
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("JSON: %v: %w", err, ErrInvalid)
		}
		m[name] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("JSON: %v: %w", err, ErrInvalid)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("bytes after the JSON object: %w", ErrInvalid)
	}
	return m, nil
}

// get reads a member into to; a missing one leaves it as it is.
func (m members) get(name string, to any) error {
	raw, ok := m[name]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, to); err != nil {
		return fmt.Errorf("member %q: %v: %w", name, err, ErrInvalid)
	}
	return nil
}
