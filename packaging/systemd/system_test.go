package systemd

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The units under a real systemd, as the operator's guide has them set up.
func TestBooted(t *testing.T) {
	m := newMachine(t)
	m.boot()
	for _, part := range []struct {
		name string
		test func(machine)
	}{{"drive", drive}, {"held", held}, {"egress", egress}, {"instance", instance}, {"fstab", fstab}, {"limit", limit}, {"user", user}, {"poweroff", poweroff}} {
		if !t.Run(part.name, func(t *testing.T) { part.test(machine{t, m.hardware}) }) {
			break // the next ones go on with what it leaves
		}
	}
}

// drive is the life of the machine's drive.
func drive(m machine) {
	t := m.t
	// What another try would not change is not tried again.
	m.fails("ipfscloud", "there is no credential")
	m.sh(`umask 077; echo 'correct horse' > /root/pass
		env -u HOME ipfscloud init --passfile /root/pass --phrase-out /root/phrase
		env -u HOME ipfscloud logout
		mkdir -p -m 700 /etc/ipfscloud
		echo wrong | systemd-creds encrypt --name=passphrase - /etc/ipfscloud/passphrase.cred`)
	m.fails("ipfscloud", "the passphrase is wrong")
	m.sh(`systemd-creds encrypt --name=passphrase /root/pass /etc/ipfscloud/passphrase.cred; rm /root/pass`)

	// Where it is active, the mount answers.
	m.run("systemctl", "start", "--no-block", "ipfscloud")
	m.active("ipfscloud")
	m.mounted("/srv/ipfscloud")

	// The line of status lives.
	first := m.commit("ipfscloud")
	m.sh(`echo one > /srv/ipfscloud/one`)
	m.until("the status line shows a new commit", func() bool { return m.commit("ipfscloud") > first })

	// SIGHUP: what can change does; what is wrong changes nothing.
	m.reload("durability = \"ipfs\"", "read the configuration again")
	if got := m.status()["durability"]; got != "ipfs" {
		t.Errorf("after the reload fsync waits for %v", got)
	}
	m.reload("durability = \"nonsense\"", "the configuration is as it was")
	if got := m.status()["durability"]; got != "ipfs" {
		t.Errorf("after a wrong configuration fsync waits for %v", got)
	}
	m.sh(`rm /etc/ipfscloud/config.toml`)

	// A stop flushes, and says so.
	m.sh(`mkdir /srv/ipfscloud/d; for i in $(seq 200); do echo $i > /srv/ipfscloud/d/$i; done; systemctl stop ipfscloud`)
	if r := m.show("ipfscloud", "Result"); r != "success" {
		t.Errorf("stopped: %s", r)
	}
	m.flushed("ipfscloud", 1)
	if out, err := m.try("findmnt", "/srv/ipfscloud"); err == nil {
		t.Errorf("after a stop: %s", out)
	}
	m.fields("ipfscloud")

	// Who asks for the page starts the drive, and the page is at the socket's port.
	m.dropIn("ipfscloud", "[Service]\nWatchdogSec=15\nRestartSec=1\n")
	m.run("systemctl", "start", "ipfscloud-horizon.socket")
	for _, host := range []string{"127.0.0.1", "::1"} { // a browser may look at either
		if out := m.page(host); !strings.HasPrefix(out, "HTTP/1.1 ") {
			t.Errorf("the page at %s: %q", host, out)
		}
	}
	m.active("ipfscloud")
	if out := m.run("ipfscloud", "horizon", "--print"); !strings.Contains(out, ":7770/") {
		t.Errorf("the page is at %q", out)
	}

	// It is not ended where another file system hides it, and says so.
	m.run("mount", "-t", "tmpfs", "hides", "/srv/ipfscloud")
	m.until("the status line says that the drive is hidden", func() bool {
		return strings.Contains(m.show("ipfscloud", "StatusText"), "not what is seen at /srv/ipfscloud")
	})
	m.run("umount", "/srv/ipfscloud")
	m.until("the status line says no more of that", func() bool {
		return !strings.Contains(m.show("ipfscloud", "StatusText"), "not what is seen")
	})

	// A daemon that hangs is ended by the watchdog, and the drive is there again.
	pid := m.show("ipfscloud", "MainPID")
	m.sh(`echo two > /srv/ipfscloud/two; kill -STOP ` + pid)
	m.until("the watchdog has ended it", func() bool { return m.show("ipfscloud", "MainPID") != pid })
	m.active("ipfscloud")
	if n := m.show("ipfscloud", "NRestarts"); n != "1" {
		t.Errorf("restarted %s times", n)
	}
	if m.says("ipfscloud", "Watchdog timeout") == 0 {
		t.Error("the journal has no word of the watchdog")
	}
	m.sh(`test "$(cat /srv/ipfscloud/one)" = one; test "$(cat /srv/ipfscloud/two)" = two; test $(ls /srv/ipfscloud/d | wc -l) = 200`)
	if out, err := m.try("systemd-analyze", "security", "--no-pager", "--threshold=40", "ipfscloud.service"); err != nil {
		t.Errorf("the running unit is more open than it claims: %v\n%s", err, out)
	}
}

// held: a stop ends also where something keeps the mount when its name is gone.
func held(m machine) {
	if os.Getenv("IPFSCLOUD_SOAK") == "" {
		m.t.Skip("it waits for a minute: IPFSCLOUD_SOAK=1")
	}
	stop := func(why string) {
		m.t.Helper()
		flushes, detached := m.says("ipfscloud", flushedText), m.says("ipfscloud", "in use; detaching")
		m.run("systemctl", "stop", "ipfscloud")
		if r := m.show("ipfscloud", "Result"); r != "success" {
			m.t.Errorf("%s: stopped: %s", why, r)
		}
		m.flushed("ipfscloud", flushes+1)
		if m.says("ipfscloud", "in use; detaching") == detached {
			m.t.Errorf("%s: it does not say that it is in use", why)
		}
		m.run("systemctl", "stop", "holder")
		m.run("systemctl", "start", "ipfscloud")
	}
	m.run("systemd-run", "--unit=holder", "unshare", "--mount", "--propagation", "private", "sh", "-c", "exec sleep 600")
	stop("another mount namespace")
	m.run("systemd-run", "--unit=holder", "sh", "-c", "exec sleep 600 < /srv/ipfscloud/one")
	m.until("the file is open", func() bool {
		out, _ := m.try("sh", "-c", `readlink /proc/$(systemctl show --value -p MainPID holder)/fd/0`)
		return strings.TrimSpace(out) == "/srv/ipfscloud/one"
	})
	m.run("umount", "--lazy", "/srv/ipfscloud")
	stop("a file that is open, and no name")
}

// egress: a node of an Egress with the programs of its own, as closed as its unit is.
func egress(m machine) {
	m.run("systemctl", "start", "ipfscloud-egress")
	m.active("ipfscloud-egress")
	status := "env IPFSCLOUD_HOME=/var/lib/ipfscloud-egress ipfscloud egress status"
	if out, err := m.try("sh", "-c", status); err == nil {
		m.t.Errorf("root trusts what the node's user could have written: %s", out)
	}
	// As the guide says.
	m.t.Log(m.sh("systemd-run --quiet --pipe --wait -p User=ipfscloud-egress -p DynamicUser=yes -p StateDirectory=ipfscloud-egress " + status))
	m.run("systemctl", "stop", "ipfscloud-egress")
	if r := m.show("ipfscloud-egress", "Result"); r != "success" {
		m.t.Errorf("stopped: %s", r)
	}
}

// instance: one drive of several takes nothing from the others. Its passphrase is in a
// credential that is not sealed.
func instance(m machine) {
	m.sh(`echo 'battery staple' > /root/work-pass; chmod 600 /root/work-pass
		IPFSCLOUD_HOME=/var/lib/ipfscloud-work ipfscloud init --passfile /root/work-pass --phrase-out /root/work-phrase
		IPFSCLOUD_HOME=/var/lib/ipfscloud-work ipfscloud logout`)
	m.dropIn("ipfscloud@work", "[Service]\nLoadCredentialEncrypted=\nLoadCredential=passphrase:/root/work-pass\n")
	m.run("systemctl", "start", "ipfscloud@work")
	m.mounted("/srv/work")
	m.sh(`echo work > /srv/work/f`)
	m.run("systemctl", "stop", "ipfscloud@work")
	m.flushed("ipfscloud@work", 1)
	if s := m.status(); s["mountpoint"] != "/srv/ipfscloud" {
		m.t.Errorf("after another drive was stopped, this one says %v", s)
	}
	m.run("systemctl", "start", "ipfscloud@work")
	m.sh(`test "$(cat /srv/work/f)" = work; systemctl stop ipfscloud@work`)
}

// fstab: systemd makes units of the operator's guide's line, and who looks into the
// directory mounts the drive.
func fstab(m machine) {
	m.sh(`mkdir /mnt /mnt/cloud
		echo '/var/lib/ipfscloud-work /mnt/cloud ipfscloud noauto,nofail,_netdev,allow_other,passfile=/root/work-pass,x-systemd.automount,x-systemd.mount-timeout=2min 0 0' > /etc/fstab
		systemctl daemon-reload; systemctl start mnt-cloud.automount
		test "$(cat /mnt/cloud/f)" = work; echo more > /mnt/cloud/g`)
	m.active("mnt-cloud.mount")
	m.mounted("/mnt/cloud")
	pid := m.sh(`IPFSCLOUD_HOME=/var/lib/ipfscloud-work ipfscloud status --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p'`)
	m.run("systemctl", "stop", "mnt-cloud.mount")
	m.until("its daemon has ended", func() bool {
		_, err := m.try("kill", "-0", strings.TrimSpace(pid))
		return err != nil
	})
	m.sh(`test "$(cat /mnt/cloud/g)" = more`) // mounts it again
}

// limit: what fails and might do better is started five times, and then no more.
func limit(m machine) {
	m.sh(`mkdir -m 700 /etc/ipfscloud-none; echo any | systemd-creds encrypt --name=passphrase - /etc/ipfscloud-none/passphrase.cred`)
	m.dropIn("ipfscloud@none", "[Service]\nRestartSec=100ms\n")
	if _, err := m.try("systemctl", "start", "ipfscloud@none"); err == nil {
		m.t.Fatal("a drive without an identity starts")
	}
	m.until("it is given up", func() bool { return m.says("ipfscloud@none", "Start request repeated too quickly") > 0 })
	if n := m.says("ipfscloud@none", "Main process exited"); n != 5 {
		m.t.Errorf("it was started %d times", n)
	}
	m.run("systemctl", "reset-failed", "ipfscloud@none")
}

// user is the unit of a user, in a session of hers.
func user(m machine) {
	t := m.t
	m.run("loginctl", "enable-linger", "ada")
	m.active(fmt.Sprintf("user@%d", ada))
	as := func(script string) string {
		t.Helper()
		out, err := m.as("sh", "-euc", "cd; "+script)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	as(`echo 'tr0ub4dor' > pass; chmod 600 pass; ipfscloud init --passfile pass --phrase-out phrase; ipfscloud logout`)

	// Without a session it says what to do, and does not try again.
	as(`if systemctl --user start ipfscloud; then exit 1; fi`)
	if got := as(`systemctl --user show --value -p NRestarts -p ActiveState ipfscloud`); got != "0\nfailed" && got != "failed\n0" {
		t.Errorf("without a session: %q", got)
	}
	if m.says(fmt.Sprintf("_UID=%d", ada), "`ipfscloud login`") == 0 { // the unit of what ends at once is not always known
		t.Error("without a session it does not say what to do")
	}

	// With one.
	as(`ipfscloud login --passfile pass; systemctl --user start ipfscloud; echo hers > IpfsCloud/f`)
	if got := as(`systemctl --user show --value -p StatusText ipfscloud`); !strings.HasPrefix(got, "mounted, commit ") {
		t.Errorf("its line of status: %q", got)
	}
	as(`systemctl --user stop ipfscloud; ipfscloud logout; if findmnt IpfsCloud; then exit 1; fi`)

	// With a key of this machine, as the unit tells.
	as(`mkdir -p -m 700 .config/ipfscloud; ipfscloud keystore slot add --passfile pass --key-out .config/ipfscloud/key
		mkdir -p .config/systemd/user/ipfscloud.service.d
		printf '[Service]\nLoadCredential=passphrase:%%E/ipfscloud/key\n' > .config/systemd/user/ipfscloud.service.d/override.conf
		systemctl --user daemon-reload
		systemctl --user enable --now ipfscloud
		test "$(cat IpfsCloud/f)" = hers
		systemctl --user reload ipfscloud`)
}

// poweroff is one in order, with what is not committed yet, and the next boot.
func poweroff(m machine) {
	t := m.t
	m.run("systemctl", "enable", "ipfscloud", "ipfscloud-horizon.socket")
	n := m.says("ipfscloud", flushedText)
	m.sh(`echo three > /srv/ipfscloud/three; echo five > /mnt/cloud/five`)
	if _, err := m.as("sh", "-c", "echo four > /home/ada/IpfsCloud/four"); err != nil {
		t.Fatal(err)
	}
	m.poweroff()
	m.boot()
	m.active("ipfscloud")
	m.flushed("ipfscloud", n+1)
	m.sh(`test "$(cat /srv/ipfscloud/three)" = three`)
	if out := m.run("ipfscloud", "horizon", "--print"); !strings.Contains(out, ":7770/") {
		t.Errorf("the page is at %q", out)
	}
	m.sh(`systemctl start mnt-cloud.automount; test "$(cat /mnt/cloud/five)" = five`)
	m.until("the user's drive is there without her", func() bool {
		out, _ := m.as("cat", "/home/ada/IpfsCloud/four")
		return out == "four\n"
	})
}

// fails starts a unit that fails for good: one start, no restart.
func (m machine) fails(unit, because string) {
	m.t.Helper()
	if _, err := m.try("systemctl", "start", unit); err == nil {
		m.t.Fatalf("%s starts, and %s", unit, because)
	}
	if state, n := m.show(unit, "ActiveState"), m.show(unit, "NRestarts"); state != "failed" || n != "0" {
		m.t.Errorf("%s is %s after %s restarts, and %s", unit, state, n, because)
	}
	m.run("systemctl", "reset-failed", unit)
}

// active waits for a unit that starts.
func (m machine) active(unit string) {
	m.t.Helper()
	m.until(unit+" is active", func() bool {
		state := m.show(unit, "ActiveState")
		if state == "failed" {
			m.t.Fatalf("%s has failed", unit)
		}
		return state == "active"
	})
}

func (m machine) mounted(path string) {
	m.t.Helper()
	kinds := strings.Fields(m.run("findmnt", "-n", "-o", "FSTYPE", path)) // of all that lie there on one another
	if kinds[len(kinds)-1] != "fuse.ipfscloud" {
		m.t.Errorf("what is mounted at %s is %q", path, kinds)
	}
	m.run("ls", path)
}

// commit is the number of the commit that a unit's line of status shows.
func (m machine) commit(unit string) int {
	m.t.Helper()
	text := m.show(unit, "StatusText")
	_, after, _ := strings.Cut(text, "commit ")
	number, _, _ := strings.Cut(after, ",")
	n, err := strconv.Atoi(number)
	if err != nil {
		m.t.Fatalf("the line of status is %q", text)
	}
	return n
}

// status is what `ipfscloud status` tells of the machine's drive.
func (m machine) status() map[string]any {
	m.t.Helper()
	var s map[string]any
	if err := json.Unmarshal([]byte(m.run("ipfscloud", "status", "--json")), &s); err != nil {
		m.t.Fatal(err)
	}
	return s
}

// reload writes the configuration, reloads the machine's drive, and waits for what it
// says to that.
func (m machine) reload(config, answer string) {
	m.t.Helper()
	before := m.says("ipfscloud", answer)
	m.sh(fmt.Sprintf("printf '%%s\\n' '%s' > /etc/ipfscloud/config.toml; systemctl reload ipfscloud", config))
	m.until("it says: "+answer, func() bool { return m.says("ipfscloud", answer) > before })
	m.active("ipfscloud")
}

// says is how often a unit has said something.
func (m machine) says(unit, text string) int {
	m.t.Helper()
	n := 0
	for _, e := range m.journal(unit) {
		if s, ok := e["MESSAGE"].(string); ok && strings.Contains(s, text) {
			n++
		}
	}
	return n
}

const flushedText = "Unmounted. Everything is in IPFS."

// flushed wants a unit to have said so often that it has ended with all committed.
func (m machine) flushed(unit string, times int) {
	m.t.Helper()
	if n := m.says(unit, flushedText); n != times {
		m.t.Errorf("%s has ended with all committed %d times, not %d", unit, n, times)
	}
}

// fields looks at what the daemon itself has logged: with fields of its own.
func (m machine) fields(unit string) {
	m.t.Helper()
	for _, e := range m.journal(unit) {
		if e["IPFSCLOUD_ERROR"] == nil {
			continue
		}
		if e["_SYSTEMD_UNIT"] != unit+".service" || e["SYSLOG_IDENTIFIER"] != "ipfscloud" || e["PRIORITY"] == nil || e["_TRANSPORT"] != "journal" {
			m.t.Errorf("an entry with an error: %v", e)
		}
		return
	}
	m.t.Error("the journal has no entry with a field IPFSCLOUD_ERROR")
}

// dropIn changes a unit until the next boot.
func (m machine) dropIn(unit, text string) {
	m.t.Helper()
	m.sh(fmt.Sprintf("mkdir -p /run/systemd/system/%[1]s.service.d; printf '%%s' '%[2]s' > /run/systemd/system/%[1]s.service.d/test.conf; systemctl daemon-reload", unit, text))
}

// page asks the page at the socket's port for something, and returns what comes.
func (m machine) page(host string) string {
	m.t.Helper()
	return m.run("bash", "-euc", `exec 3<>/dev/tcp/$0/7770; printf 'GET / HTTP/1.1\r\nHost: localhost:7770\r\nConnection: close\r\n\r\n' >&3; cat <&3`, host)
}
