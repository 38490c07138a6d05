package did

import (
	"fmt"
	"strings"
)

// Operations is a set of what a method can do.
type Operations uint8

// The operations of a Method.
const (
	CanCreate Operations = 1 << iota
	CanResolve
	CanUpdate
	CanRecover
	CanDeactivate
)

// Has tells whether all of want are in the set.
func (o Operations) Has(want Operations) bool { return o&want == want }

// String lists the operations, such as "create, resolve".
func (o Operations) String() string {
	var names []string
	for i, name := range []string{"create", "resolve", "update", "recover", "deactivate"} {
		if o.Has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Want returns ErrNotSupported, named, when a method lacks an operation: a caller can ask
// before it has gathered keys or passphrases.
func Want(m Method, op Operations) error {
	if m.Can().Has(op) {
		return nil
	}
	return &Error{Name: NameNotSupported, Err: ErrNotSupported,
		Reason: fmt.Sprintf("did:%s cannot %s, only %s", m.Name(), op, m.Can())}
}

// lacks is ErrNotSupported for an operation, named.
func lacks(what string) error {
	return &Error{Name: NameNotSupported, Err: ErrNotSupported, Reason: "the DID method does not support: " + what}
}
