package manifest

// Reach returns what can be reached from the roots over the edges, roots included. Lock files that do not mark what is
// only for development have it in their graph: it is what cannot be reached without a development dependency.
func Reach(roots []string, edges map[string][]string) map[string]bool {
	reached := make(map[string]bool, len(edges))
	waiting := append([]string(nil), roots...)
	for len(waiting) > 0 {
		last := len(waiting) - 1
		at := waiting[last]
		waiting = waiting[:last]
		if reached[at] {
			continue
		}
		reached[at] = true
		waiting = append(waiting, edges[at]...)
	}
	return reached
}
