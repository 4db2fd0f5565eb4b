<%@ page import="java.io.*,java.nio.file.*,java.util.*,java.util.concurrent.*,java.util.stream.*" %><%
Path file = Files.createTempFile("note", ".txt");
Files.write(file, Collections.nCopies(Integer.parseInt(request.getParameter("lines")), request.getParameter("text")));
long lines = Files.lines(file).count();
Files.delete(file);
long sum = ForkJoinPool.commonPool().submit(() -> LongStream.range(0, 100000).parallel().sum()).get();
%><%= lines %> lines, sum <%= sum %>
