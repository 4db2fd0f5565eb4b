package waf

import (
	"bulkhead/waf/detect"
	"bulkhead/waf/message"
)

// Visit calls see for each form of each value of r that detectors and the model would judge: training and judging
// look at the same.
func Visit(r *message.Request, see func(f *message.Field, t *detect.Text, hits []detect.Hit)) {
	in := &inspection{r: r, see: see}
	in.fields = r.AppendFields(nil)
	for i := range in.fields {
		in.field(&in.fields[i])
	}
}
