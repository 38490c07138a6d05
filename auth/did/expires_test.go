package did

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// A key with an end is of no use after it, and an end that is none makes no document.
func TestExpires(t *testing.T) {
	const id = "did:example:owner"
	doc := func(expires string) (*Document, error) {
		return Parse(id, fmt.Appendf(nil, `{"id":%q,"verificationMethod":[{"id":"#k","type":"Multikey","controller":%q,
			"publicKeyMultibase":"z6MktY2jFwcH5L3NF6Be6yFiCT72f5KEx3chSreLtEUUDZG3","expires":%q}],"assertionMethod":["#k"]}`, id, id, expires))
	}
	now := time.Now().UTC().Truncate(time.Second)
	for expires, want := range map[string]error{
		"": nil, now.Add(time.Hour).Format(time.RFC3339): nil, now.Add(-time.Second).Format(time.RFC3339): ErrRelationship,
	} {
		d, err := doc(expires)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Key(AssertionMethod, id+"#k"); !errors.Is(err, want) {
			t.Errorf("expires %q: %v", expires, err)
		}
		if n := len(d.KeysFor(AssertionMethod)); n != 1 {
			t.Errorf("expires %q: %d keys", expires, n)
		}
	}
	for _, expires := range []string{"soon", "2026-01-31", "0001-01-01T00:00:00Z"} {
		if _, err := doc(expires); !errors.Is(err, ErrInvalid) {
			t.Errorf("expires %q: %v", expires, err)
		}
	}
}
