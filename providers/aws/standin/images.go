package standin

import (
	"net/http"
)

// image is what moto does not keep of RegisterImage:
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html
type image struct {
	name, bootMode, tpm, architecture, ena, snapshot, size, uefiData string
}

func (c *Cloud) registerImage(in *call) (answer, *refusal) {
	c.run.Lock()
	defer c.run.Unlock()
	f := in.form
	i := image{
		name: f.Get("Name"), bootMode: f.Get("BootMode"), tpm: f.Get("TpmSupport"), architecture: f.Get("Architecture"), ena: f.Get("EnaSupport"),
		snapshot: f.Get("BlockDeviceMapping.1.Ebs.SnapshotId"), uefiData: f.Get("UefiData"),
	}
	if refused := c.registrable(&i); refused != nil {
		return answer{}, refused
	}
	out, refused := c.forward(in)
	if refused != nil || out.status != http.StatusOK {
		return out, refused
	}
	n, err := parseXML(out.body)
	if err != nil {
		return answer{}, refuse(http.StatusInternalServerError, "InternalError", "%s", err)
	}
	id := n.value("imageId")
	c.mu.Lock()
	c.images[id] = i
	c.mu.Unlock()
	if tags := tagsFor(f, "image"); len(tags) > 0 {
		tags.Set("ResourceId.1", id)
		if _, err := c.ask(in.r.Context(), in.r.Header.Get("Authorization"), "CreateTags", tags); err != nil {
			return answer{}, refuse(http.StatusInternalServerError, "InternalError", "%s", err)
		}
	}
	return out, nil
}

// registrable refuses a name twice, a snapshot that is not complete, and a TPM
// without UEFI: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/enable-nitrotpm-prerequisites.html
func (c *Cloud) registrable(i *image) *refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.images {
		if other.name == i.name {
			return refuse(http.StatusBadRequest, "InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI", i.name)
		}
	}
	s := c.snapshots[i.snapshot]
	switch {
	case s == nil:
		return refuse(http.StatusBadRequest, "InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", i.snapshot)
	case !s.completed:
		return refuse(http.StatusBadRequest, "InvalidSnapshot", "Snapshot %s is not in state 'completed'", i.snapshot)
	case len(i.uefiData) > maxUefiData:
		return refuse(http.StatusBadRequest, "InvalidParameterValue", "UefiData has %d characters", len(i.uefiData))
	case i.uefiData != "" && i.bootMode != "uefi":
		return refuse(http.StatusBadRequest, "InvalidParameterCombination", "UefiData needs the boot mode uefi")
	case i.tpm != "" && i.bootMode != "uefi":
		return refuse(http.StatusBadRequest, "InvalidParameterCombination", "TpmSupport needs the boot mode uefi")
	}
	i.size = s.size
	return nil
}

// maxUefiData is the longest text of variables:
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html
const maxUefiData = 64000

// UefiData is what an image was registered with; empty where there is no such
// image.
func (c *Cloud) UefiData(image string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.images[image].uefiData
}

// completeImage adds what moto does not keep. The caller holds c.mu.
func (c *Cloud) completeImage(item *node) {
	i, ok := c.images[item.value("imageId")]
	if !ok {
		return
	}
	for name, value := range map[string]string{"bootMode": i.bootMode, "tpmSupport": i.tpm, "architecture": i.architecture, "enaSupport": i.ena} {
		if value != "" {
			item.set(leaf(name, value))
		}
	}
	root := item.at("blockDeviceMapping", "item", "ebs")
	root.set(leaf("snapshotId", i.snapshot))
	root.set(leaf("volumeSize", i.size))
	root.set(leaf("deleteOnTermination", "true"))
}

// Blocks are what a snapshot holds, by their index.
func (c *Cloud) Blocks(id string) map[int][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[int][]byte{}
	if s := c.snapshots[id]; s != nil {
		for i, b := range s.blocks {
			out[i] = b
		}
	}
	return out
}
