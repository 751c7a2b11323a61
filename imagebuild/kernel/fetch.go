package kernel

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/toolshed-cloud/shed/imagebuild/debian"
)

// Fetch returns the concrete package that the metapackage name stands for,
// downloading it into the directory cache unless it is there already. Errors
// match debian.ErrLists, debian.ErrDownload or ErrPackage.
func Fetch(ctx context.Context, name, cache string) (*debian.Package, error) {
	depends, err := debian.Depends(ctx, name)
	if err != nil {
		return nil, err
	}
	concrete, version, err := Concrete(depends)
	if err != nil {
		return nil, fmt.Errorf("%w: %s depends on %.80q", ErrPackage, name, depends)
	}
	return debian.Fetch(ctx, concrete, version, cache)
}

// exactly is a dependency on one version of one package that holds a kernel. Both
// go to apt's command line.
var exactly = regexp.MustCompile(`^(linux-image-[a-z0-9+.-]{1,100}) \(= ([0-9][A-Za-z0-9.+~:-]{0,127})\)$`)

// Concrete reads "linux-image-6.12.1-cloud-amd64 (= 6.12.1-1)" out of a
// metapackage's dependencies. The error is ErrPackage.
func Concrete(depends string) (name, version string, err error) {
	for need := range strings.SplitSeq(depends, ",") {
		if m := exactly.FindStringSubmatch(strings.TrimSpace(need)); m != nil {
			return m[1], m[2], nil
		}
	}
	return "", "", ErrPackage
}
