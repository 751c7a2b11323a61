package libvirt

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
)

const (
	installation = providers.InstallationID("aaaaaaaaaaaaaaaaaaaaaaaaaa")
	machine      = providers.MachineID("bbbbbbbbbbbbbbbbbbbbbbbbbb")
	other        = providers.MachineID("cccccccccccccccccccccccccc")
)

func example() tags {
	return tags{
		Machine: machine, Installation: installation, Generation: 7, SpecHash: attest.Sum([]byte("spec")), Release: attest.ReleaseDigest{1},
		Size: "small", VCPUs: 1, MemoryBytes: 256 << 20, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Port: 30001, Disk: machine,
		Made: true, On: true, Started: true, Failure: `it said "<no>" & ended`,
	}
}

func TestTagsAreReadAsWritten(t *testing.T) {
	text, err := example().encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseTags(text)
	got.XMLName = xml.Name{}
	if err != nil || got != example() {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTagsThatAreNotOursAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*tags){
		"machine":      func(t *tags) { t.Machine = "../x" },
		"installation": func(t *tags) { t.Installation = "" },
		"disk":         func(t *tags) { t.Disk = "a" },
		"kept disk":    func(t *tags) { t.DataFrom = "a/b" },
		"port":         func(t *tags) { t.Port = 65536 },
		"vcpus":        func(t *tags) { t.VCPUs = 0 },
	} {
		spoiled := example()
		spoil(&spoiled)
		text, err := spoiled.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseTags(text); err == nil || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseTags(f *testing.F) {
	text, err := example().encode()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{text, "", "<machine/>", "<!DOCTYPE x [<!ENTITY a 'b'>]><machine id='&a;'/>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseTags(text)
		if err != nil {
			return
		}
		again, err := got.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseTags(again); err != nil {
			t.Errorf("%q was read, and is written as %q: %v", text, again, err)
		}
	})
}

func TestVolumesSayWhoseTheyAre(t *testing.T) {
	for _, k := range []kind{kindSystem, kindData, kindConfig, kindConsole} {
		got, ok := parseVolume(volumeName(installation, machine, k))
		if !ok || got != (parsed{installation: installation, machine: machine, kind: k}) {
			t.Errorf("%s: got %+v, %t", k, got, ok)
		}
	}
	got, ok := parseVolume(markerName(installation, machine, other))
	if !ok || got != (parsed{installation: installation, machine: machine, kind: kindMarker, disk: other}) {
		t.Errorf("marker: got %+v, %t", got, ok)
	}
}

func FuzzParseVolume(f *testing.F) {
	for _, seed := range []string{
		volumeName(installation, machine, kindData), markerName(installation, machine, other),
		volumeName(installation, machine, kindConsole) + ".0", "debian.qcow2", "shed.image.x.disk", volumeName(installation, machine, "data/../x"),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, ok := parseVolume(name)
		if !ok {
			return
		}
		begins := volumeName(got.installation, got.machine, got.kind)
		if !strings.HasPrefix(name, begins) || strings.ContainsAny(name, "/\x00\n") {
			t.Errorf("%q was read as %+v", name, got)
		}
	})
}

func TestMarkedDiskIsTheOthers(t *testing.T) {
	name := func(text string) volume {
		p, _ := parseVolume(text)
		return volume{parsed: p, name: text, owner: p.machine}
	}
	all := assign([]volume{
		name(volumeName(installation, other, kindData)), name(markerName(installation, machine, other)), name(volumeName(installation, machine, kindConfig)),
	})
	if mine, left := of(all, machine), of(all, other); len(mine) != 3 || len(left) != 0 {
		t.Errorf("the machine has %d volumes, the one before has %d", len(mine), len(left))
	}
}

func TestUUIDsAreTheMachines(t *testing.T) {
	if uuidOf(machine) == uuidOf(other) {
		t.Error("a machine's UUID is not its own")
	}
	if u := uuidOf(machine); u[6]>>4 != 8 || u[8]>>6 != 2 {
		t.Errorf("%x is no UUID", u)
	}
}

func TestPowerIsWhatWasAskedForAndIs(t *testing.T) {
	for _, c := range []struct {
		name  string
		tags  tags
		state libvirt.DomainState
		why   string
		power providers.Power
		due   due
	}{
		{"on", tags{Made: true, On: true, Started: true}, libvirt.DomainRunning, "", providers.PowerOn, nothingDue},
		{"half-made", tags{On: true}, libvirt.DomainShutoff, "", providers.PowerPending, nothingDue},
		{"not started yet", tags{Made: true, On: true}, libvirt.DomainShutoff, "", providers.PowerPending, startDue},
		{"switched off", tags{Made: true, Started: true}, libvirt.DomainShutoff, "the guest has shut down", providers.PowerOff, nothingDue},
		{"being switched off", tags{Made: true}, libvirt.DomainRunning, "", providers.PowerPending, stopDue},
		{"crashed", tags{Made: true, On: true, Started: true}, libvirt.DomainShutoff, "QEMU has crashed", providers.PowerCrashed, nothingDue},
		{"crashed, and forgotten", tags{Made: true, On: true, Started: true}, libvirt.DomainShutoff, "", providers.PowerCrashed, nothingDue},
		{"never started", tags{Made: true, On: true, Started: true, Failure: "no"}, libvirt.DomainShutoff, "", providers.PowerCrashed, nothingDue},
		{"being deleted", tags{Made: true, On: true, Started: true, Deleting: true}, libvirt.DomainRunning, "", providers.PowerPending, nothingDue},
	} {
		power, reason, next := c.tags.power(c.state, c.why)
		if power != c.power || next != c.due || (power == providers.PowerCrashed && reason == "") {
			t.Errorf("%s: %s (%q), due %d; want %s, due %d", c.name, power, reason, next, c.power, c.due)
		}
	}
}

func TestErrorsAreTold(t *testing.T) {
	h := &host{hostSettings: hostSettings{Name: "rack-1", URI: "qemu+tls://rack-1/system"}}
	for _, c := range []struct {
		err   error
		code  providers.Code
		scope providers.Scope
	}{
		{libvirt.Error{Code: uint32(libvirt.ErrAuthFailed)}, providers.CodeUnauthenticated, providers.ScopeRegion},
		{libvirt.Error{Code: uint32(libvirt.ErrAccessDenied)}, providers.CodeDenied, providers.ScopeRegion},
		{libvirt.Error{Code: uint32(libvirt.ErrSystemError), Message: "cannot fill file: No space left on device"}, providers.CodeCapacity, providers.ScopeRegion},
		{libvirt.Error{Code: uint32(libvirt.ErrNoNetwork)}, providers.CodeInvalid, providers.ScopeRegion},
		{libvirt.Error{Code: uint32(libvirt.ErrOperationTimeout)}, providers.CodeAborted, providers.ScopeMachine},
		{libvirt.Error{Code: uint32(libvirt.ErrInternalError)}, providers.CodeInternal, providers.ScopeMachine},
		{errors.New("connection reset"), providers.CodeOutcomeUnknown, providers.ScopeMachine},
	} {
		err := h.failure(c.err, "doing")
		if providers.CodeOf(err) != c.code || providers.ScopeOf(err) != c.scope || !strings.Contains(fmt.Sprint(err), "rack-1") {
			t.Errorf("%v: got %v in %s, want %s in %s", c.err, err, providers.ScopeOf(err), c.code, c.scope)
		}
	}
	if err := h.failure(nil, "doing"); err != nil {
		t.Error(err)
	}
}

func TestURIsThatCouldMeanAnotherAreRefused(t *testing.T) {
	for _, good := range []string{
		"qemu+unix:///system", "qemu+unix:///system?socket=/run/x", "qemu+tls://rack/system", "qemu+tls://rack:1/system?pkipath=/p",
		"qemu+ssh://shed@rack/system?keyfile=/k", "qemu+ssh://rack:22/system",
	} {
		if _, err := dialer(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "qemu:///system", "qemu+tcp://rack/system", "qemu+tls:///system", "qemu+unix://rack/system", "qemu+tls://rack/session",
		"qemu+tls://rack/system?no_verify=1", "qemu+ssh://rack/system?no_verify=1", "qemu+ssh://a:secret@rack/system", "qemu+tls://a@rack/system",
		"qemu+ssh://rack/system?command=x", "qemu+tls://rack/system?name=test:///default", "xen+tls://rack/system", "qemu+tls://rack/system%zz",
	} {
		if _, err := dialer(bad); err == nil || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func FuzzParseSettings(f *testing.F) {
	for _, seed := range []string{
		`{"hosts":[{"name":"a","uri":"qemu+unix:///system","pool":"p"}]}`, `{}`, `{"hosts":[]}`, `{"hosts":[{"name":"a","uri":"x","pool":"p"}],"grace":"1s"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseSettings(raw)
		if err != nil {
			if providers.CodeOf(err) != providers.CodeInvalid {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseSettings(again); err != nil {
			t.Errorf("%q was read, and is written as %q: %v", raw, again, err)
		}
	})
}

func TestSettingsAreRefusedByName(t *testing.T) {
	host := func(more string) string {
		return `{"hosts":[{"name":"a","uri":"qemu+unix:///system","pool":"p"` + more + `}]}`
	}
	for raw, field := range map[string]string{
		`{}`:                         "hosts",
		host(`,"accel":"x"`):         "accel",
		host(`,"address":"0.0.0.0"`): "address",
		host(`,"address":"::1"`):     "address",
		host(`,"network":"a'b"`):     "network",
		host(`,"files_pool":"a/b"`):  "files_pool",
		host(`,"firmware":"x.fd"`):   "firmware",
		`{"hosts":[{"name":"A"}]}`:   "name",
		`{"hosts":[{"name":"a","uri":"qemu+unix:///system","pool":"p"},{"name":"a","uri":"qemu+unix:///system","pool":"p"}]}`: "twice",
		strings.Replace(host(""), "{", `{"grace":"11m",`, 1):                                                                  "grace",
		strings.Replace(host(""), "{", `{"cpu_overcommit":0,`, 1):                                                             "cpu_overcommit",
		strings.Replace(host(""), "{", `{"sizes":[{"name":"x","vcpus":1,"memory_bytes":1}],`, 1):                              "memory_bytes",
		strings.Replace(host(""), "{", `{"port_first":1,`, 1):                                                                 "port_first",
	} {
		if _, err := parseSettings([]byte(raw)); err == nil || !strings.Contains(fmt.Sprint(err), field) {
			t.Errorf("%s: %v, want %s named", raw, err, field)
		}
	}
}

func TestDisksOfEveryKindOfPool(t *testing.T) {
	for text, want := range map[string]diskXML{
		`<pool type='dir'><target><path>/p</path></target></pool>`:          {"file", "raw", "<source file='/p/v'/>"},
		`<pool type='logical'><target><path>/dev/vg</path></target></pool>`: {"block", "raw", "<source dev='/dev/vg/v'/>"},
		`<pool type='rbd'><source><name>c</name><host name='m1' port='6789'/><host name='m2'/><auth type='ceph' username='shed'><secret uuid='u'/></auth></source></pool>`: {
			"network", "raw", "<source protocol='rbd' name='c/v'><host name='m1' port='6789'/><host name='m2'/><auth username='shed'><secret type='ceph' uuid='u'/></auth></source>",
		},
	} {
		var p pool
		if err := xml.Unmarshal([]byte(text), &p.description); err != nil {
			t.Fatal(err)
		}
		if got := p.disk("v", "raw"); got != want {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}

func TestDomainIsXMLWhateverItsPathsAre(t *testing.T) {
	h := &host{hostSettings: hostSettings{Name: "a", Address: "127.0.0.1", Accel: accelTCG, Firmware: "/f'<&", FirmwareVariables: "/v"}}
	l := &link{}
	l.pool.description = poolXML{Type: poolDir, Path: "/it's <here> & there"}
	l.files = l.pool
	for _, network := range []string{"", "default"} {
		h.Network = network
		text, err := h.render(l, example(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var seen struct {
			Loader string `xml:"os>loader"`
			Disks  []struct {
				Source struct {
					File string `xml:"file,attr"`
				} `xml:"source"`
			} `xml:"devices>disk"`
			Networks []struct{} `xml:"devices>interface"`
		}
		if err := xml.Unmarshal([]byte(text), &seen); err != nil {
			t.Fatalf("%v:\n%s", err, text)
		}
		if seen.Loader != h.Firmware || len(seen.Disks) != 3 || seen.Disks[1].Source.File != l.pool.path(example().dataVolume()) {
			t.Errorf("got %+v", seen)
		}
		if (len(seen.Networks) == 1) != (network != "") || strings.Contains(text, "hostfwd") != (network == "") {
			t.Errorf("on network %q:\n%s", network, text)
		}
	}
}

func TestRoomIsTheScarcerOfBoth(t *testing.T) {
	o := providers.Offering{VCPUs: 2, MemoryBytes: 1 << 30}
	for _, c := range []struct {
		room room
		want int
	}{{room{9, 8 << 30}, 4}, {room{100, 3<<30 + 1}, 3}, {room{1, 8 << 30}, 0}, {room{-4, 8 << 30}, 0}, {room{9, -1 << 40}, 0}} {
		if got := c.room.holds(o); got != c.want {
			t.Errorf("%+v holds %d, want %d", c.room, got, c.want)
		}
	}
}
