# The first two commands: `make run` mounts a drive, `make test` tests everything.

SHELL := /bin/bash
GO ?= go
PREFIX ?= /usr/local
# The same for build and tests, so that Kubo is compiled once.
export GOFLAGS ?= -mod=readonly -buildvcs=false -trimpath

# What `make install` installs below, and where the package goes.
ZSHDIR ?= $(PREFIX)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
DIST ?= bin/deb
DEBROOT ?= bin/deb-root

.PHONY: build run test lint bench bench-scale soak man completions install install-egress deb deb-egress clean

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

# The tests wait more than they work, for disks, clocks and other processes: the three parts
# run side by side.
test:
	contrib/install-needs test
	$(GO) vet ./...
	@$(MAKE) --no-print-directory egress
	@$(MAKE) --no-print-directory -j3 test-race test-parts test-whole

# Race detection is for the packages that share memory and do not contain Kubo: with it,
# Kubo alone would take longer than all tests.
test-race:
	$(GO) test -race -p 1 -timeout 25m -skip RecoverFromAnyHistory ./auth/... ./fs/crypt ./fs/journal ./fs/fstest ./fs/fuse
	$(GO) test -race -short -timeout 25m ./fs

# All that the other two leave: also the histories to recover from, which take minutes with
# race detection and share nothing.
test-parts:
	$(GO) test -timeout 20m -run RecoverFromAnyHistory ./auth
	$(GO) test -p 1 -timeout 20m $$($(GO) list ./... | grep -vE '/(auth|fs/(crypt|journal|fstest|fuse)|daemon/cli)(/|$$)')

# The whole program, with kernel, Kubo, cluster and browser.
test-whole:
	$(GO) test -parallel 4 -timeout 30m ./daemon/cli

# The programs of an Egress node: Kubo as this module has it, and the cluster service from
# a module of its own, for its libraries are older ones.
.PHONY: egress egress-ctl
egress:
	$(GO) build -o bin/ipfs github.com/ipfs/kubo/cmd/ipfs
	cd packaging/egress && $(GO) build -o ../../bin/ github.com/ipfs-cluster/ipfs-cluster/cmd/ipfs-cluster-service

# IPFS Cluster's own control program, for people: nothing here needs it.
egress-ctl:
	cd packaging/egress && $(GO) build -o ../../bin/ github.com/ipfs-cluster/ipfs-cluster/cmd/ipfs-cluster-ctl

lint:
	contrib/install-needs lint
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt:" $$out; exit 1; }
	$(GO) vet ./...
	cd packaging/tools && $(GO) build -o ../../bin/staticcheck honnef.co/go/tools/cmd/staticcheck
	bin/staticcheck ./...
	shellcheck contrib/install-needs contrib/debian-root packaging/deb/pack packaging/deb/p*[!k] packaging/testdata/life.sh .ci/run

# Side by side with Debian's gocryptfs, in one run; prints ratios.
bench: build
	contrib/install-needs bench
	contrib/bench/run --results contrib/bench/RESULTS.md

# How costs grow with what is in a drive: prints curves. Half an hour, and 20 GB of disk.
bench-scale: build
	contrib/bench/scale --results contrib/bench/SCALE.md

# Longer than a test should take: kill loops, power cuts, peers that hang or die for good,
# fuzzing.
soak:
	contrib/install-needs test
	IPFSCLOUD_SOAK=1 $(GO) test -count=1 -timeout 4h -run 'Kill|Power' -v ./daemon/cli
	IPFSCLOUD_SOAK=1 $(GO) test -count=1 -timeout 1h -run 'Faults|Move|Cost' -v ./cluster
	IPFSCLOUD_SOAK=1 $(GO) test -count=1 -timeout 4h -run RecoverFromAnyHistory -v ./auth
	IPFSCLOUD_SOAK=1 $(GO) test -count=1 -timeout 4h -run 'AgainstLocalDisk|Exercisers' ./fs/fuse
	IPFSCLOUD_SOAK=1 $(GO) test -count=1 -timeout 30m -run Booted -v ./packaging/systemd
	IPFSCLOUD_SOAK=1 $(GO) test -count=1 -timeout 4h -run Model ./fs
	IPFSCLOUD_TEST_LOOP=ring $(GO) test -count=1 -timeout 1h ./fs/fuse
	$(GO) test -count=200 -timeout 1h -run ChangesDuring ./fs
	$(GO) test -run xxx -fuzz FuzzRecords -fuzztime 10m ./fs
	$(GO) test -run xxx -fuzz FuzzDecoders -fuzztime 5m ./fs/crypt
	$(GO) test -run xxx -fuzz FuzzFilter -fuzztime 2m ./daemon/printable
	$(GO) test -run xxx -fuzz FuzzCanonical -fuzztime 2m ./auth/did/jcs
	$(GO) test -run xxx -fuzz FuzzParseKeystore -fuzztime 2m ./auth
	$(GO) test -run xxx -fuzz FuzzLog -fuzztime 3m ./auth/did/webvh
	$(GO) test -run xxx -fuzz FuzzEntry -fuzztime 3m ./auth/did/webvh
	$(GO) test -run xxx -fuzz FuzzWitness -fuzztime 2m ./auth/did/webvh
	$(GO) test -run xxx -fuzz FuzzParseID -fuzztime 2m ./auth/did/webvh
	$(GO) test -run xxx -fuzz FuzzParseURL -fuzztime 2m ./auth/did/webvh
	$(GO) test -run xxx -fuzz FuzzRequest -fuzztime 2m ./auth/login
	$(GO) test -run xxx -fuzz FuzzResponse -fuzztime 2m ./auth/login

# The pictures of the page in the README, taken by its tests in a real Chromium.
.PHONY: screenshots
screenshots:
	contrib/install-needs screenshots
	IPFSCLOUD_SCREENSHOTS=$(CURDIR)/contrib/screenshots $(GO) test -count=1 -run Chromium ./daemon/horizon

man: build
	rm -rf bin/man
	bin/ipfscloud man bin/man

completions: build
	install -d bin/completions
	for s in bash zsh fish; do bin/ipfscloud completion $$s > bin/completions/$$s || exit 1; done

# Also what the package holds: packaging/deb/pack takes it from here. A configuration that
# is there already stays.
install: build man completions
	install -D -m 755 bin/ipfscloud $(DESTDIR)$(PREFIX)/bin/ipfscloud
	install -d $(DESTDIR)/sbin && ln -sf $(PREFIX)/bin/ipfscloud $(DESTDIR)/sbin/mount.ipfscloud
	for n in 1 8; do \
		install -d $(DESTDIR)$(PREFIX)/share/man/man$$n || exit 1; \
		install -m 644 bin/man/*.$$n $(DESTDIR)$(PREFIX)/share/man/man$$n/ || exit 1; done
	install -D -m 644 bin/completions/bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/ipfscloud
	install -D -m 644 bin/completions/zsh $(DESTDIR)$(ZSHDIR)/_ipfscloud
	install -D -m 644 bin/completions/fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/ipfscloud.fish
	for u in packaging/systemd/*/* packaging/egress/*.service; do \
		kind=system; case $$u in */user/*) kind=user;; esac; \
		install -d $(DESTDIR)$(PREFIX)/lib/systemd/$$kind || exit 1; \
		sed 's|@BINDIR@|$(PREFIX)/bin|' $$u > $(DESTDIR)$(PREFIX)/lib/systemd/$$kind/$${u##*/} || exit 1; done
	install -d $(DESTDIR)$(PREFIX)/share/doc/ipfscloud
	install -m 644 README.md CHANGELOG.md packaging/OPERATOR.md packaging/egress/GUIDE.md contrib/tutorial/TUTORIAL.md \
		fs/POSIX.md fs/crypt/THREATS.md packaging/config.toml $(DESTDIR)$(PREFIX)/share/doc/ipfscloud/
	install -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/ipfscloud/copyright
	install -d -m 700 $(DESTDIR)/etc/ipfscloud
	[ -e $(DESTDIR)/etc/ipfscloud/config.toml ] || install -m 644 packaging/config.toml $(DESTDIR)/etc/ipfscloud/

# RELEASE counts the packages of one version.
deb:
	rm -rf $(DEBROOT)
	$(MAKE) --no-print-directory install DESTDIR=$(DEBROOT) PREFIX=/usr
	install -d $(DIST)
	packaging/deb/pack ipfscloud $(DEBROOT) $(DIST)

# Where ipfscloud looks for them.
install-egress: egress
	install -d $(DESTDIR)$(PREFIX)/lib/ipfscloud
	install -m 755 bin/ipfs bin/ipfs-cluster-service $(DESTDIR)$(PREFIX)/lib/ipfscloud/

deb-egress: build
	rm -rf $(DEBROOT)-egress
	$(MAKE) --no-print-directory install-egress DESTDIR=$(DEBROOT)-egress PREFIX=/usr
	install -d $(DIST)
	packaging/deb/pack ipfscloud-egress $(DEBROOT)-egress $(DIST)

clean:
	rm -rf bin
