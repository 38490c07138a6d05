# The first two commands: `make run` mounts a drive, `make test` tests everything.

SHELL := /bin/bash
GO ?= go
PREFIX ?= /usr/local
# The same for build and tests, so that Kubo is compiled once.
export GOFLAGS ?= -mod=readonly -buildvcs=false -trimpath

.PHONY: build run test test-race lint bench bench-scale soak man install clean

build: bin/ipfscloud bin/mount.ipfscloud

.PHONY: bin/ipfscloud
bin/ipfscloud:
	$(GO) build -o $@ .

bin/mount.ipfscloud: bin/ipfscloud
	ln -sf ipfscloud $@

# On a terminal: your drive. Without one: the whole job in a throw-away home.
run:
	@[ -x bin/ipfscloud ] || echo "The first build takes some minutes: it includes an IPFS node."
	@$(MAKE) --no-print-directory build
	@if [ -t 0 ] && [ -t 1 ]; then bin/ipfscloud up $(DIR); else bin/ipfscloud demo; fi

# Race detection is for the packages that share memory and do not contain Kubo: with it,
# Kubo alone would take longer than all tests.
test:
	contrib/install-needs test
	$(GO) vet ./...
	$(GO) test -race -timeout 10m ./auth/... ./fs/crypt ./fs/journal ./fs/fstest ./fs/fuse
	$(GO) test -race -short -timeout 10m ./fs
	$(GO) test -timeout 20m . ./fs ./fs/ipfs ./cluster/... ./daemon/...

# The programs of an Egress node: Kubo as this module has it, and the cluster service from
# a module of its own, for its libraries are older ones.
.PHONY: egress
egress:
	$(GO) build -o bin/ipfs github.com/ipfs/kubo/cmd/ipfs
	cd packaging/egress && $(GO) build -o ../../bin/ \
		github.com/ipfs-cluster/ipfs-cluster/cmd/ipfs-cluster-service \
		github.com/ipfs-cluster/ipfs-cluster/cmd/ipfs-cluster-ctl

lint:
	contrib/install-needs lint
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt:" $$out; exit 1; }
	$(GO) vet ./...
	cd packaging/tools && $(GO) build -o ../../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...
	shellcheck contrib/install-needs contrib/bench/run .ci/run

# Side by side with Debian's gocryptfs, in one run; prints ratios.
bench: build
	contrib/install-needs bench
	contrib/bench/run

# How costs grow with what is in a drive: prints curves. Half an hour, and 20 GB of disk.
bench-scale: build
	contrib/bench/scale --results contrib/bench/SCALE.md

# Longer than a test should take: kill loops, power cuts, fuzzing.
soak:
	contrib/install-needs test
	IPFSCLOUD_SOAK=1 $(GO) test -count=1 -timeout 4h -run 'Kill|Power' -v ./daemon/cli
	IPFSCLOUD_SOAK=1 $(GO) test -count=1 -timeout 4h -run Model ./fs
	$(GO) test -count=200 -timeout 1h -run ChangesDuring ./fs
	$(GO) test -run xxx -fuzz FuzzRecords -fuzztime 10m ./fs
	$(GO) test -run xxx -fuzz FuzzDecoders -fuzztime 5m ./fs/crypt
	$(GO) test -run xxx -fuzz FuzzRequest -fuzztime 2m ./auth/login
	$(GO) test -run xxx -fuzz FuzzResponse -fuzztime 2m ./auth/login

man: build
	bin/ipfscloud man bin/man

install: build man
	install -D -m 755 bin/ipfscloud $(DESTDIR)$(PREFIX)/bin/ipfscloud
	install -d $(DESTDIR)/sbin && ln -sf $(PREFIX)/bin/ipfscloud $(DESTDIR)/sbin/mount.ipfscloud
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 && install -m 644 bin/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -d $(DESTDIR)$(PREFIX)/share/man/man8 && install -m 644 bin/man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	for u in packaging/systemd/*/* packaging/egress/*.service; do \
		kind=system; case $$u in */user/*) kind=user;; esac; \
		install -d $(DESTDIR)$(PREFIX)/lib/systemd/$$kind; \
		sed 's|@BINDIR@|$(PREFIX)/bin|' $$u > $(DESTDIR)$(PREFIX)/lib/systemd/$$kind/$${u##*/}; done

clean:
	rm -rf bin
