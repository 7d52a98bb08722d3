//! A plain PDF (1.4) of lines of text: A4, Courier, Latin-1. What Latin-1 does not have is shown as `?`; the JSON form has everything.

/// Characters that fit on a line at 8 points.
const COLUMNS: usize = 108;
/// Lines on a page.
const ROWS: usize = 78;

/// The document.
pub(super) fn document(lines: &[String]) -> Vec<u8> {
    let wrapped: Vec<String> = lines.iter().flat_map(|line| wrap(line)).collect();
    let mut pages: Vec<&[String]> = wrapped.chunks(ROWS).collect();
    if pages.is_empty() {
        pages.push(&[]);
    }
    let kids: Vec<String> = (0..pages.len())
        .map(|page| format!("{} 0 R", 4 + 2 * page))
        .collect();
    let mut objects = vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        format!(
            "<< /Type /Pages /Kids [{}] /Count {} >>",
            kids.join(" "),
            pages.len()
        )
        .into_bytes(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>".to_vec(),
    ];
    let count = pages.len();
    for (number, page) in pages.into_iter().enumerate() {
        objects.push(
            format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> /Contents {} 0 R >>",
                5 + 2 * number
            )
            .into_bytes(),
        );
        let mut content = b"BT /F1 8 Tf 10 TL 38 804 Td\n".to_vec();
        for line in page {
            content.push(b'(');
            content.extend(latin(line));
            content.extend_from_slice(b") Tj T*\n");
        }
        content.extend_from_slice(b"ET\n");
        content.extend(
            format!("BT /F1 8 Tf 500 20 Td ({} of {count}) Tj ET\n", number + 1).into_bytes(),
        );
        let mut object = format!("<< /Length {} >>\nstream\n", content.len()).into_bytes();
        object.extend(content);
        object.extend_from_slice(b"endstream");
        objects.push(object);
    }
    assemble(&objects)
}

fn assemble(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (number, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.extend(format!("{} 0 obj\n", number + 1).into_bytes());
        file.extend(object);
        file.extend_from_slice(b"\nendobj\n");
    }
    let start = file.len();
    file.extend(table.into_bytes());
    file.extend(
        format!(
            "trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n",
            objects.len() + 1
        )
        .into_bytes(),
    );
    file
}

/// Breaks a line at spaces, or in a word that is longer than a line; what follows is indented.
fn wrap(line: &str) -> Vec<String> {
    let mut rows = Vec::new();
    let mut rest: Vec<char> = line.chars().collect();
    while rest.len() > COLUMNS {
        let at = rest
            .iter()
            .take(COLUMNS)
            .rposition(|c| *c == ' ')
            .filter(|at| *at > COLUMNS / 2)
            .unwrap_or(COLUMNS);
        let tail = rest.split_off(at);
        rows.push(rest.into_iter().collect());
        rest = "    "
            .chars()
            .chain(tail.into_iter().skip_while(|c| *c == ' '))
            .collect();
    }
    rows.push(rest.into_iter().collect());
    rows
}

fn latin(line: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(line.len());
    for c in line.chars() {
        match u8::try_from(u32::from(c)) {
            Ok(byte @ (b'(' | b')' | b'\\')) => bytes.extend([b'\\', byte]),
            Ok(byte) if byte >= 0xa0 || (0x20..0x7f).contains(&byte) => bytes.push(byte),
            Ok(_) | Err(_) => bytes.push(b'?'),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_in_the_table_leads_to_its_object_and_no_line_is_lost() {
        let lines: Vec<String> = (0..200)
            .map(|number| format!("line {number} (with \\ signs) é {}", "x".repeat(number)))
            .collect();
        let file = document(&lines);
        let text: String = file.iter().map(|byte| char::from(*byte)).collect();
        let start: usize = text
            .rsplit("startxref\n")
            .next()
            .and_then(|tail| tail.lines().next())
            .unwrap()
            .parse()
            .unwrap();
        // Offsets count bytes; the text above has a longer form of what is not ASCII.
        let table = String::from_utf8(file[start..].to_vec()).unwrap();
        let table: Vec<&str> = table.lines().collect();
        let count: usize = table[1].split(' ').nth(1).unwrap().parse().unwrap();
        for number in 1..count {
            let at: usize = table[2 + number][..10].parse().unwrap();
            assert!(
                file[at..].starts_with(format!("{number} 0 obj\n").as_bytes()),
                "{number}"
            );
        }
        for number in 0..200 {
            assert!(text.contains(&format!("(line {number} \\(with \\\\ signs\\) é")));
        }
        assert_eq!(
            text.matches("/Type /Page ").count(),
            lines.iter().flat_map(|l| wrap(l)).count().div_ceil(ROWS)
        );
    }

    #[test]
    fn long_lines_are_broken_and_nothing_ends_a_string_early() {
        let long = "word ".repeat(60);
        assert!(wrap(&long).iter().all(|row| row.chars().count() <= COLUMNS));
        assert_eq!(
            wrap(&"x".repeat(300)).concat().replace(' ', ""),
            "x".repeat(300)
        );
        assert_eq!(wrap(""), [""]);
        assert_eq!(latin("a\n)\u{1F600}"), b"a?\\)?");
    }
}
