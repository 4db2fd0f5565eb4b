<?php
// What small PHP applications do: sessions, includes, uploads, files of their own, temporary files, packing.
switch ($_GET['do'] ?? '') {
  case 'session':
    session_start();
    $_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1;
    echo 'visit ', $_SESSION['count'];
    break;
  case 'part':
    require '/var/www/part' . (int) $_GET['n'] . '.php';
    echo part();
    break;
  case 'upload':
    $to = '/var/www/files/' . basename($_FILES['file']['name']);
    if (!move_uploaded_file($_FILES['file']['tmp_name'], $to)) http_response_code(500);
    echo 'stored ', md5_file($to), ' ', unlink($to) ? 'and removed' : '';
    break;
  case 'note':
    $file = '/var/www/files/' . basename($_GET['name']) . '.txt';
    file_put_contents($file, $_GET['text'] . "\n", FILE_APPEND | LOCK_EX);
    echo count(file($file)), ' lines';
    break;
  case 'sort':
    $file = tmpfile();
    for ($i = 0; $i < (int) $_GET['n']; $i++) fwrite($file, mt_rand() . "\n");
    rewind($file);
    $lines = explode("\n", gzuncompress(gzcompress(stream_get_contents($file))));
    sort($lines);
    echo count($lines), ' sorted';
    break;
  case 'list':
    foreach (scandir('/var/www/files') as $name) echo $name, ' ', date('c'), "\n";
    break;
  default:
    http_response_code(404);
}
