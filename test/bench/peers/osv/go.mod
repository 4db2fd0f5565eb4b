module bulkhead/test/bench/peers/osv

go 1.26.0
