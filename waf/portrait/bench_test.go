package portrait

import (
	"fmt"
	"runtime"
	"testing"

	"bulkhead/waf/message"
)

// BenchmarkHundred says what a hundred portraits take, each of 60 endpoints with four parameters, learned of 3,000 requests.
func BenchmarkHundred(b *testing.B) {
	for range b.N {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		list := make([]*Portrait, 100)
		for i := range list {
			list[i] = New()
			for n := range 3000 {
				raw := fmt.Sprintf("GET /group-%c/part-%c/%d?page=%d&q=lamp+%d&sort=price-%d&ref=ab%dcd HTTP/1.1\r\nHost: a\r\n\r\n", 'a'+n%6, 'a'+n/6%10, n, n, n, n%3, n)
				list[i].Learn(message.Parse([]byte(raw)), fmt.Sprint(n%50))
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB/hundred")
		runtime.KeepAlive(list)
	}
}
