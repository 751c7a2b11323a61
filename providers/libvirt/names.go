package libvirt

import (
	"crypto/sha256"
	"regexp"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
)

// domainPrefix begins the name of every domain of ours.
const domainPrefix = "shed-"

func domainName(id providers.MachineID) string { return domainPrefix + string(id) }

// machineOf reads a domain's name.
func machineOf(domain string) (providers.MachineID, bool) {
	id, ok := strings.CutPrefix(domain, domainPrefix)
	return providers.MachineID(id), ok && plainID.MatchString(id)
}

var plainID = regexp.MustCompile(`^[a-z2-7]{26}$`)

// uuidOf is a machine's UUID, by which libvirt keeps the state of its TPM: two
// domains of one machine cannot be on a host.
func uuidOf(id providers.MachineID) libvirt.UUID {
	sum := sha256.Sum256([]byte("shed machine " + id))
	var u libvirt.UUID
	copy(u[:], sum[:])
	// RFC 9562, version 8: the bits are ours.
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return u
}

// kind is what a volume of a machine is.
type kind string

// The kinds of volume. A marker is empty, and names the machine whose kept disk
// is now this one's: volumes cannot be renamed.
const (
	kindSystem  kind = "system"
	kindData    kind = "data"
	kindConfig  kind = "config"
	kindConsole kind = "console"
	kindMarker  kind = "has"
)

// volumeName says whose a volume is, for pools know nothing else of theirs.
func volumeName(installation providers.InstallationID, machine providers.MachineID, k kind) string {
	return "shed." + string(installation) + "." + string(machine) + "." + string(k)
}

func markerName(installation providers.InstallationID, machine, disk providers.MachineID) string {
	return volumeName(installation, machine, kindMarker) + "." + string(disk)
}

// The rotated logs of a console are made by virtlogd.
var volumePattern = regexp.MustCompile(`^shed\.([a-z2-7]{26})\.([a-z2-7]{26})\.(?:(system|data|config|console)|(console)\.[0-9]|(has)\.([a-z2-7]{26}))$`)

// parsed is what a volume's name says.
type parsed struct {
	installation providers.InstallationID
	machine      providers.MachineID
	kind         kind
	// disk is whose disk a marker speaks of.
	disk providers.MachineID
}

func parseVolume(name string) (parsed, bool) {
	m := volumePattern.FindStringSubmatch(name)
	if m == nil {
		return parsed{}, false
	}
	return parsed{
		installation: providers.InstallationID(m[1]), machine: providers.MachineID(m[2]),
		kind: kind(m[3] + m[4] + m[5]), disk: providers.MachineID(m[6]),
	}, true
}

// The volumes of a release's image.
const (
	imageDisk      = "disk"
	imageFirmware  = "firmware"
	imageVariables = "variables"
	// imageInfoName is written last: it says that the others are whole.
	imageInfoName = "info"
)

func imageName(release attest.ReleaseDigest, part string) string {
	return "shed.image." + release.String() + "." + part
}
