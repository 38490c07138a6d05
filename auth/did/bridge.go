package did

import (
	"context"
	"errors"
	"fmt"

	ariesdid "github.com/hyperledger/aries-framework-go/pkg/doc/did"
	ariesapi "github.com/hyperledger/aries-framework-go/pkg/framework/aries/api/vdr"
)

const (
	answerOption  = "ipfscloud.answer"
	contextOption = "ipfscloud.context"
)

// WithContext is an option for Resolve of the registry of aries, which has no context.
func WithContext(ctx context.Context) ariesapi.DIDMethodOption {
	return ariesapi.WithOption(contextOption, ctx)
}

// answer brings a document and its error through the registry of aries as they are.
type answer struct {
	doc *Document
	err error
}

func withAnswer(ctx context.Context, to *answer) ariesapi.DIDMethodOption {
	return func(opts *ariesapi.DIDMethodOpts) {
		opts.Values[answerOption], opts.Values[contextOption] = to, ctx
	}
}

// bridge is a Method in the registry of aries. Aries reads through it; what changes a DID
// goes to the Method itself, for aries has neither signers nor recovery.
type bridge struct{ method Method }

var _ ariesapi.VDR = bridge{}

func (b bridge) Accept(method string, _ ...ariesapi.DIDMethodOption) bool {
	return method == b.method.Name()
}

func (b bridge) Read(id string, options ...ariesapi.DIDMethodOption) (*ariesdid.DocResolution, error) {
	opts := &ariesapi.DIDMethodOpts{Values: make(map[string]any)}
	for _, o := range options {
		o(opts)
	}
	ctx, ok := opts.Values[contextOption].(context.Context)
	if !ok {
		ctx = context.Background() // the methods have deadlines of their own
	}
	doc, err := b.method.Resolve(ctx, id)
	if to, ok := opts.Values[answerOption].(*answer); ok {
		to.doc, to.err = doc, err
		return &ariesdid.DocResolution{}, nil
	}
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", ariesapi.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	if doc.Deactivated { // aries would not look
		return nil, fmt.Errorf("%s: %w", id, ErrDeactivated)
	}
	parsed, err := ariesdid.ParseDocument(doc.Raw())
	if err != nil {
		return nil, fmt.Errorf("aries cannot read the document of %s: %v: %w", id, err, ErrInvalid)
	}
	return &ariesdid.DocResolution{DIDDocument: parsed}, nil
}

func (bridge) Create(*ariesdid.Doc, ...ariesapi.DIDMethodOption) (*ariesdid.DocResolution, error) {
	return nil, lacks("create through aries")
}

func (bridge) Update(*ariesdid.Doc, ...ariesapi.DIDMethodOption) error {
	return lacks("update through aries")
}

func (bridge) Deactivate(string, ...ariesapi.DIDMethodOption) error {
	return lacks("deactivate through aries")
}

func (bridge) Close() error { return nil }
