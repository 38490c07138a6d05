// Package ipfs keeps the blocks of the encrypted tree in Kubo, the IPFS node. It has one
// job: fs.Store. Embedded runs the node in this process, RPC speaks to a node elsewhere,
// and Cache puts a bounded copy of ciphertext on local disk before a node that is far.
//
// It is the only package that imports kubo and boxo; of ours it imports fs and fs/crypt.
// It sees sealed bytes and never a key, and it never asks the network for a block unless
// it was told to.
package ipfs
