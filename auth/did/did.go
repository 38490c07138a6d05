package did

// Resolver resolves DIDs with the methods it was made with.
type Resolver struct{}
