package main

import (
	_ "github.com/coreos/go-systemd/v22/daemon"
	_ "github.com/hanwen/go-fuse/v2/fuse"
	_ "github.com/hyperledger/aries-framework-go/pkg/vdr"
	_ "github.com/hyperledger/aries-framework-go/pkg/vdr/key"
	_ "github.com/hyperledger/aries-framework-go/pkg/vdr/web"
	_ "github.com/hyperledger/aries-framework-go/pkg/vdr/peer"
	_ "github.com/hyperledger/aries-framework-go/pkg/doc/did"
	_ "github.com/ipfs/kubo/client/rpc"
	_ "github.com/ipfs/kubo/core"
	_ "github.com/ipfs/kubo/core/coreapi"
	_ "github.com/ipfs/kubo/core/corehttp"
	_ "github.com/ipfs/kubo/commands"
	_ "github.com/ipfs/kubo/core/commands"
	_ "github.com/ipfs/kubo/repo/fsrepo"
	_ "github.com/ipfs/kubo/plugin/loader"
	_ "github.com/ipfs/kubo/cmd/ipfs/kubo"
	_ "github.com/minio/sio"
	_ "golang.org/x/crypto/argon2"
	_ "golang.org/x/sys/unix"
	_ "github.com/BurntSushi/toml"
	_ "golang.org/x/term"
	_ "github.com/tyler-smith/go-bip39"
)

func main() {}
