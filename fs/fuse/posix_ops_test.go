package fuse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// operation does one thing and tells its result, if it has one.
type operation func(r *run, a []string) (string, error)

// operations are the words of the tables.
func operations() map[string]operation {
	return map[string]operation{
		"create":  opCreate,
		"open":    opOpen,
		"close":   func(r *run, a []string) (string, error) { return "", r.close(a[0]) },
		"put":     opPut,
		"get":     opGet,
		"write":   opWrite,
		"read":    opRead,
		"mkdir":   func(r *run, a []string) (string, error) { return "", unix.Mkdir(r.path(a[0]), octal(a, 1)) },
		"rmdir":   func(r *run, a []string) (string, error) { return "", unix.Rmdir(r.path(a[0])) },
		"unlink":  func(r *run, a []string) (string, error) { return "", unix.Unlink(r.path(a[0])) },
		"rename":  func(r *run, a []string) (string, error) { return "", unix.Rename(r.path(a[0]), r.path(a[1])) },
		"rename2": opRename2,
		"link":    func(r *run, a []string) (string, error) { return "", unix.Link(r.path(a[0]), r.path(a[1])) },
		"linkfollow": func(r *run, a []string) (string, error) {
			return "", unix.Linkat(unix.AT_FDCWD, r.path(a[0]), unix.AT_FDCWD, r.path(a[1]), unix.AT_SYMLINK_FOLLOW)
		},
		"symlink":  func(r *run, a []string) (string, error) { return "", unix.Symlink(r.path(a[0]), r.path(a[1])) },
		"chain":    opChain,
		"readlink": opReadlink,
		"mkfifo": func(r *run, a []string) (string, error) {
			return "", unix.Mkfifo(r.path(a[0]), octal(a, 1))
		},
		"mknod":       opMknod,
		"make":        opMake,
		"chmod":       func(r *run, a []string) (string, error) { return "", unix.Chmod(r.path(a[0]), octal(a, 1)) },
		"fchmod":      func(r *run, a []string) (string, error) { return "", unix.Fchmod(r.fd(a[0]), octal(a, 1)) },
		"lchmod":      opLchmod,
		"chown":       func(r *run, a []string) (string, error) { return "", unix.Chown(r.path(a[0]), id(a[1]), id(a[2])) },
		"lchown":      func(r *run, a []string) (string, error) { return "", unix.Lchown(r.path(a[0]), id(a[1]), id(a[2])) },
		"fchown":      func(r *run, a []string) (string, error) { return "", unix.Fchown(r.fd(a[0]), id(a[1]), id(a[2])) },
		"truncate":    func(r *run, a []string) (string, error) { return "", unix.Truncate(r.path(a[0]), number(a[1])) },
		"ftruncate":   func(r *run, a []string) (string, error) { return "", unix.Ftruncate(r.fd(a[0]), number(a[1])) },
		"utimens":     opUtimens,
		"access":      opAccess,
		"stat":        func(r *run, a []string) (string, error) { return opStat(r, a, 0) },
		"lstat":       func(r *run, a []string) (string, error) { return opStat(r, a, unix.AT_SYMLINK_NOFOLLOW) },
		"missing":     opMissing,
		"same":        opSame,
		"mark":        opMark,
		"touched":     func(r *run, a []string) (string, error) { return opTouched(r, a, true) },
		"untouched":   func(r *run, a []string) (string, error) { return opTouched(r, a, false) },
		"setxattr":    opSetXattr,
		"getxattr":    opGetXattr,
		"removexattr": func(r *run, a []string) (string, error) { return "", unix.Removexattr(r.path(a[0]), a[1]) },
		"listxattr":   opListXattr,
		"lsetxattr": func(r *run, a []string) (string, error) {
			return "", unix.Lsetxattr(r.path(a[0]), a[1], []byte(a[2]), 0)
		},
		"fallocate": opFallocate,
		"seek":      opSeek,
		"copyrange": opCopyRange,
		"clone":     func(r *run, a []string) (string, error) { return "", unix.IoctlFileClone(r.fd(a[1]), r.fd(a[0])) },
		"flock":     opFlock,
		"ofd":       opOFD,
		"fsync":     func(r *run, a []string) (string, error) { return "", unix.Fsync(r.fd(a[0])) },
		"ls":        opList,
		"umask":     func(r *run, a []string) (string, error) { unix.Umask(int(octal(a, 0))); return "", nil },
		"chdir":     func(r *run, a []string) (string, error) { return "", unix.Chdir(r.path(a[0])) },
		"btime":     opBtime,
	}
}

// path gives a path of a table its meaning: OTHER is a directory of another file system.
func (r *run) path(s string) string {
	if rest, ok := strings.CutPrefix(s, "OTHER"); ok {
		return r.g.other + rest
	}
	if s == `""` {
		return ""
	}
	return s
}

func (r *run) fd(name string) int {
	if fd, ok := r.files[name]; ok {
		return fd
	}
	return -1
}

func (r *run) close(name string) error {
	fd := r.fd(name)
	delete(r.files, name)
	return unix.Close(fd)
}

func octal(a []string, i int) uint32 {
	if i >= len(a) {
		return 0o644
	}
	n, err := strconv.ParseUint(a[i], 8, 32)
	if err != nil {
		panic("not octal: " + a[i])
	}
	return uint32(n)
}

// number reads 12, 4K, 3M or 1<<40, less 1 if a - follows.
func number(s string) int64 {
	mul := int64(1)
	switch s[len(s)-1] {
	case 'K':
		mul, s = 1<<10, s[:len(s)-1]
	case 'M':
		mul, s = 1<<20, s[:len(s)-1]
	case 'G':
		mul, s = 1<<30, s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic("no number: " + s)
	}
	return n * mul
}

// id is a user or group: a number, the name of a user of the tables, or - for none.
func id(s string) int {
	if c, ok := users()[s]; ok {
		return c.uid
	}
	if s == "-" {
		return -1
	}
	return int(number(s))
}

func opCreate(r *run, a []string) (string, error) {
	fd, err := unix.Open(r.path(a[0]), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, octal(a, 1))
	if err != nil {
		return "", err
	}
	return "", unix.Close(fd)
}

func openFlags(s string) (int, error) {
	all := map[string]int{
		"O_RDONLY": unix.O_RDONLY, "O_WRONLY": unix.O_WRONLY, "O_RDWR": unix.O_RDWR, "O_CREAT": unix.O_CREAT,
		"O_EXCL": unix.O_EXCL, "O_TRUNC": unix.O_TRUNC, "O_APPEND": unix.O_APPEND, "O_DIRECTORY": unix.O_DIRECTORY,
		"O_NOFOLLOW": unix.O_NOFOLLOW, "O_NONBLOCK": unix.O_NONBLOCK, "O_TMPFILE": unix.O_TMPFILE, "O_PATH": unix.O_PATH,
		"O_SYNC": unix.O_SYNC, "O_DIRECT": unix.O_DIRECT, "O_NOATIME": unix.O_NOATIME, "O_ACCMODE": unix.O_ACCMODE,
	}
	flags := unix.O_CLOEXEC
	for _, w := range strings.Split(s, ",") {
		f, ok := all[w]
		if !ok {
			return 0, fmt.Errorf("no flag %q", w)
		}
		flags |= f
	}
	return flags, nil
}

// opOpen opens: PATH FLAGS [MODE] [as NAME]. Without a name it closes again.
func opOpen(r *run, a []string) (string, error) {
	name := ""
	if n := len(a); n > 2 && a[n-2] == "as" {
		name, a = a[n-1], a[:n-2]
	}
	flags, err := openFlags(a[1])
	if err != nil {
		return "", err
	}
	fd, err := unix.Open(r.path(a[0]), flags, octal(a, 2))
	if err != nil {
		return "", err
	}
	if name == "" {
		return "", unix.Close(fd)
	}
	r.files[name] = fd
	return "", nil
}

func opPut(r *run, a []string) (string, error) {
	fd, err := unix.Open(r.path(a[0]), unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(strings.Join(a[1:], " ")))
	return "", err
}

func opGet(r *run, a []string) (string, error) {
	fd, err := unix.Open(r.path(a[0]), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	b := make([]byte, 1<<16)
	n, err := unix.Read(fd, b)
	return printable(b[:max(n, 0)]), err
}

// printable shows zeros as dots.
func printable(b []byte) string { return strings.ReplaceAll(string(b), "\x00", ".") }

// opWrite writes: NAME OFFSET TEXT; at the file's own position if OFFSET is "-".
func opWrite(r *run, a []string) (string, error) {
	var n int
	var err error
	if a[1] == "-" {
		n, err = unix.Write(r.fd(a[0]), []byte(a[2]))
	} else {
		n, err = unix.Pwrite(r.fd(a[0]), []byte(a[2]), number(a[1]))
	}
	return strconv.Itoa(n), err
}

func opRead(r *run, a []string) (string, error) {
	b := make([]byte, number(a[2]))
	n, err := unix.Pread(r.fd(a[0]), b, number(a[1]))
	return printable(b[:max(n, 0)]), err
}

func opRename2(r *run, a []string) (string, error) {
	flags := map[string]uint{"noreplace": unix.RENAME_NOREPLACE, "exchange": unix.RENAME_EXCHANGE,
		"both": unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE, "whiteout": unix.RENAME_WHITEOUT, "unknown": 1 << 10}[a[2]]
	return "", unix.Renameat2(unix.AT_FDCWD, r.path(a[0]), unix.AT_FDCWD, r.path(a[1]), flags)
}

// opChain makes N links, each to the one before it: NAME N TARGET.
func opChain(r *run, a []string) (string, error) {
	to := a[2]
	for i := range number(a[1]) {
		name := fmt.Sprint(a[0], i+1)
		if err := unix.Symlink(to, name); err != nil {
			return "", err
		}
		to = name
	}
	return "", nil
}

func opReadlink(r *run, a []string) (string, error) {
	b := make([]byte, 8192)
	n, err := unix.Readlink(r.path(a[0]), b)
	return string(b[:max(n, 0)]), err
}

// opMknod makes: NAME TYPE MODE [MAJOR MINOR].
func opMknod(r *run, a []string) (string, error) {
	mode := octal(a, 2) | map[string]uint32{"regular": unix.S_IFREG, "fifo": unix.S_IFIFO, "block": unix.S_IFBLK,
		"char": unix.S_IFCHR, "socket": unix.S_IFSOCK, "dir": unix.S_IFDIR, "symlink": unix.S_IFLNK}[a[1]]
	dev := uint64(0)
	if len(a) > 3 {
		dev = unix.Mkdev(uint32(number(a[3])), uint32(number(a[4])))
	}
	return "", unix.Mknod(r.path(a[0]), mode, int(dev))
}

// opMake makes something of any type: TYPE NAME [MODE [OWNER GROUP]].
func opMake(r *run, a []string) (string, error) {
	kind, name := a[0], a[1]
	var err error
	switch kind {
	case "regular":
		_, err = opCreate(r, a[1:])
	case "dir":
		mode := uint32(0o755)
		if len(a) > 2 {
			mode = octal(a, 2)
		}
		err = unix.Mkdir(r.path(name), mode)
	case "symlink":
		err = unix.Symlink("test", r.path(name))
	default:
		m := []string{name, kind, "0644", "1", "2"}
		if len(a) > 2 {
			m[2] = a[2]
		}
		_, err = opMknod(r, m)
	}
	if err == nil && len(a) > 3 {
		err = unix.Lchown(r.path(name), id(a[3]), id(a[4]))
		if err == nil && kind != "symlink" { // chown took setuid away
			err = unix.Chmod(r.path(name), octal(a, 2))
		}
	}
	return "", err
}

func opLchmod(r *run, a []string) (string, error) {
	return "", unix.Fchmodat(unix.AT_FDCWD, r.path(a[0]), octal(a, 1), unix.AT_SYMLINK_NOFOLLOW)
}

func timespec(s string) unix.Timespec {
	switch s {
	case "now":
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case "omit":
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case "bad":
		return unix.Timespec{Nsec: 1e9}
	}
	sec, nsec, _ := strings.Cut(s, ".")
	t := unix.Timespec{Sec: number(sec)}
	if nsec != "" {
		t.Nsec = number(nsec)
	}
	return t
}

// opUtimens sets times: PATH ATIME MTIME [nofollow].
func opUtimens(r *run, a []string) (string, error) {
	flags := 0
	if len(a) > 3 {
		flags = unix.AT_SYMLINK_NOFOLLOW
	}
	ts := []unix.Timespec{timespec(a[1]), timespec(a[2])}
	return "", unix.UtimesNanoAt(unix.AT_FDCWD, r.path(a[0]), ts, flags)
}

func opAccess(r *run, a []string) (string, error) {
	var mode uint32
	for _, c := range a[1] {
		mode |= map[rune]uint32{'r': unix.R_OK, 'w': unix.W_OK, 'x': unix.X_OK}[c]
	}
	return "", unix.Faccessat2(unix.AT_FDCWD, r.path(a[0]), mode, unix.AT_EACCESS)
}

// statOf follows a path, or an open file: @NAME.
func (r *run) statOf(path string, flags int) (*unix.Stat_t, error) {
	var st unix.Stat_t
	if name, ok := strings.CutPrefix(path, "@"); ok {
		return &st, unix.Fstat(r.fd(name), &st)
	}
	return &st, unix.Fstatat(unix.AT_FDCWD, r.path(path), &st, flags)
}

func kindOf(mode uint32) string {
	return map[uint32]string{unix.S_IFREG: "regular", unix.S_IFDIR: "dir", unix.S_IFIFO: "fifo", unix.S_IFBLK: "block",
		unix.S_IFCHR: "char", unix.S_IFSOCK: "socket", unix.S_IFLNK: "symlink"}[mode&unix.S_IFMT]
}

// opStat compares attributes: PATH NAME=VALUE...
func opStat(r *run, a []string, flags int) (string, error) {
	st, err := r.statOf(a[0], flags)
	if err != nil {
		return "", err
	}
	when := func(t unix.Timespec) string {
		if t.Nsec == 0 {
			return fmt.Sprint(t.Sec)
		}
		return fmt.Sprintf("%d.%d", t.Sec, t.Nsec)
	}
	for _, kv := range a[1:] {
		k, want, _ := strings.Cut(kv, "=")
		var got string
		switch k {
		case "type":
			got = kindOf(st.Mode)
		case "mode":
			got, want = fmt.Sprintf("%04o", st.Mode&0o7777), fmt.Sprintf("%04o", octal([]string{want}, 0))
		case "uid":
			got, want = fmt.Sprint(st.Uid), fmt.Sprint(id(want))
		case "gid":
			got, want = fmt.Sprint(st.Gid), fmt.Sprint(id(want))
		case "nlink":
			got = fmt.Sprint(st.Nlink)
		case "size":
			got, want = fmt.Sprint(st.Size), fmt.Sprint(number(want))
		case "rdev":
			got = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		case "atime":
			got = when(st.Atim)
		case "mtime":
			got = when(st.Mtim)
		case "blocks":
			got = fmt.Sprint(st.Blocks > 0)
		default:
			return "", fmt.Errorf("no attribute %q", k)
		}
		if got != want {
			return "", fmt.Errorf("%s is %s, want %s", k, got, want)
		}
	}
	return "", nil
}

func opMissing(r *run, a []string) (string, error) {
	_, err := r.statOf(a[0], unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	return "", fmt.Errorf("it is there: %v", err)
}

// opSame wants two names of one inode.
func opSame(r *run, a []string) (string, error) {
	x, err := r.statOf(a[0], unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return "", err
	}
	y, err := r.statOf(a[1], unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && (x.Ino != y.Ino || x.Mode != y.Mode || x.Nlink != y.Nlink || x.Uid != y.Uid || x.Size != y.Size || x.Ctim != y.Ctim) {
		err = fmt.Errorf("they differ: %+v and %+v", x, y)
	}
	return "", err
}

// opMark notes the times of names, and waits until a later change has a later time.
func opMark(r *run, a []string) (string, error) {
	latest := int64(0)
	for _, p := range a {
		st, err := r.statOf(p, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return "", err
		}
		r.marks[p] = st
		latest = max(latest, st.Ctim.Nano())
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
			return "", err
		}
		if now.Nano() > latest {
			return "", nil
		}
	}
	return "", errors.New("the clock stands still")
}

// opTouched compares times with a mark: PATH atime,mtime,ctime [since MARK].
func opTouched(r *run, a []string, want bool) (string, error) {
	label := a[0]
	if len(a) > 3 {
		label = a[3]
	}
	was, ok := r.marks[label]
	if !ok {
		return "", fmt.Errorf("%s was not marked", label)
	}
	st, err := r.statOf(a[0], unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return "", err
	}
	for _, f := range strings.Split(a[1], ",") {
		var x, y unix.Timespec
		switch f {
		case "atime":
			x, y = was.Atim, st.Atim
		case "mtime":
			x, y = was.Mtim, st.Mtim
		case "ctime":
			x, y = was.Ctim, st.Ctim
		default:
			return "", fmt.Errorf("no time %q", f)
		}
		if (x != y) != want || want && y.Nano() < x.Nano() {
			return "", fmt.Errorf("%s was %v, is %v", f, x, y)
		}
	}
	return "", nil
}

// opSetXattr sets: PATH NAME VALUE [create|replace].
func opSetXattr(r *run, a []string) (string, error) {
	flags, value := 0, a[2]
	if len(a) > 3 {
		flags = map[string]int{"create": unix.XATTR_CREATE, "replace": unix.XATTR_REPLACE, "unknown": 4}[a[3]]
	}
	if value == `""` {
		value = ""
	}
	return "", unix.Setxattr(r.path(a[0]), a[1], []byte(value), flags)
}

func opGetXattr(r *run, a []string) (string, error) {
	b := make([]byte, 1<<16)
	if len(a) > 2 {
		b = b[:number(a[2])]
	}
	n, err := unix.Getxattr(r.path(a[0]), a[1], b)
	if len(b) == 0 {
		return fmt.Sprint(n), err
	}
	return string(b[:max(n, 0)]), err
}

func opListXattr(r *run, a []string) (string, error) {
	b := make([]byte, 1<<16)
	n, err := unix.Listxattr(r.path(a[0]), b)
	names := strings.Split(strings.TrimSuffix(string(b[:max(n, 0)]), "\x00"), "\x00")
	slices.Sort(names)
	return strings.Join(names, " "), err
}

// opFallocate does: NAME MODE OFFSET LENGTH.
func opFallocate(r *run, a []string) (string, error) {
	modes := map[string]uint32{"0": 0, "keep": unix.FALLOC_FL_KEEP_SIZE, "punch": unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		"zero": unix.FALLOC_FL_ZERO_RANGE, "zerokeep": unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
		"punchonly": unix.FALLOC_FL_PUNCH_HOLE, "collapse": unix.FALLOC_FL_COLLAPSE_RANGE, "insert": unix.FALLOC_FL_INSERT_RANGE}
	m, ok := modes[a[1]]
	if !ok {
		return "", fmt.Errorf("no mode %q", a[1])
	}
	return "", unix.Fallocate(r.fd(a[0]), m, number(a[2]), number(a[3]))
}

// opSeek seeks: NAME data|hole|end OFFSET.
func opSeek(r *run, a []string) (string, error) {
	whence := map[string]int{"data": unix.SEEK_DATA, "hole": unix.SEEK_HOLE, "end": unix.SEEK_END, "set": unix.SEEK_SET}[a[1]]
	n, err := unix.Seek(r.fd(a[0]), number(a[2]), whence)
	return fmt.Sprint(n), err
}

// opCopyRange copies: FROM OFFSET TO OFFSET LENGTH.
func opCopyRange(r *run, a []string) (string, error) {
	from, to := number(a[1]), number(a[3])
	n, err := unix.CopyFileRange(r.fd(a[0]), &from, r.fd(a[2]), &to, int(number(a[4])), 0)
	return fmt.Sprint(n), err
}

func opFlock(r *run, a []string) (string, error) {
	how := map[string]int{"sh": unix.LOCK_SH, "ex": unix.LOCK_EX, "un": unix.LOCK_UN}[a[1]]
	return "", unix.Flock(r.fd(a[0]), how|unix.LOCK_NB)
}

// opOFD locks a range for an open file: NAME read|write|unlock OFFSET LENGTH.
func opOFD(r *run, a []string) (string, error) {
	const setLock = 37 // F_OFD_SETLK
	l := unix.Flock_t{Type: map[string]int16{"read": unix.F_RDLCK, "write": unix.F_WRLCK, "unlock": unix.F_UNLCK}[a[1]],
		Start: number(a[2]), Len: number(a[3])}
	return "", unix.FcntlFlock(uintptr(r.fd(a[0])), setLock, &l)
}

func opList(r *run, a []string) (string, error) {
	fd, err := unix.Open(r.path(a[0]), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			return "", err
		}
		if n == 0 {
			slices.Sort(names)
			return strings.Join(names, " "), nil
		}
		for b := buf[:n]; len(b) > 0; { // ino, off, length, type, name
			size := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := strings.Cut(string(b[19:size]), "\x00")
			names, b = append(names, name), b[size:]
		}
	}
}

// opBtime wants a time of birth that is not after the first change and never moves.
func opBtime(r *run, a []string) (string, error) {
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, r.path(a[0]), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x); err != nil {
		return "", err
	}
	if x.Mask&unix.STATX_BTIME == 0 {
		return "", errors.New("no time of birth")
	}
	b := time.Unix(x.Btime.Sec, int64(x.Btime.Nsec))
	if since := time.Since(b); since < 0 || since > 10*time.Minute {
		return "", fmt.Errorf("born %v ago", since)
	}
	now := unix.NsecToTimespec(b.UnixNano())
	if was, ok := r.marks["birth of "+a[len(a)-1]]; ok && was.Mtim != now {
		return "", fmt.Errorf("born %v, and before %v", now, was.Mtim)
	}
	r.marks["birth of "+a[len(a)-1]] = &unix.Stat_t{Mtim: now}
	return "", nil
}
