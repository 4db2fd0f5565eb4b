<?php
// One page with the functions that a small application has: read, write, compute.
$name = $_GET['name'] ?? 'world';
file_put_contents('/tmp/visits', "$name\n", FILE_APPEND);
echo "hello ", htmlspecialchars($name), " from php ", PHP_VERSION, "\n";
